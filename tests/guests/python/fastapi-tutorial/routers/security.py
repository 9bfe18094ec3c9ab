"""OAuth2 with a password and bearer tokens that are JWTs."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import jwt
from fastapi import APIRouter, Depends, HTTPException, status
from fastapi.security import HTTPBasic, HTTPBasicCredentials, OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pydantic import BaseModel

SECRET_KEY = "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"
ALGORITHM = "HS256"

router = APIRouter(tags=["security"])
oauth2_scheme = OAuth2PasswordBearer(tokenUrl="token")
basic = HTTPBasic()


class User(BaseModel):
    username: str
    scopes: list[str] = []


def get_current_user(token: Annotated[str, Depends(oauth2_scheme)]) -> User:
    try:
        payload = jwt.decode(token, SECRET_KEY, algorithms=[ALGORITHM])
    except jwt.InvalidTokenError:
        raise HTTPException(
            status_code=status.HTTP_401_UNAUTHORIZED,
            detail="Could not validate credentials",
            headers={"WWW-Authenticate": "Bearer"},
        ) from None
    return User(username=payload["sub"], scopes=payload["scopes"])


@router.post("/token")
async def login(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
    if form.password != "secret":
        raise HTTPException(status_code=400, detail="Incorrect username or password")
    payload = {"sub": form.username, "scopes": form.scopes, "exp": datetime.now(UTC) + timedelta(minutes=15)}
    return {"access_token": jwt.encode(payload, SECRET_KEY, algorithm=ALGORITHM), "token_type": "bearer"}


@router.get("/users/me")
async def read_me(user: Annotated[User, Depends(get_current_user)]) -> User:
    return user


@router.get("/basic")
def read_basic(credentials: Annotated[HTTPBasicCredentials, Depends(basic)]) -> dict[str, str]:
    return {"username": credentials.username}
