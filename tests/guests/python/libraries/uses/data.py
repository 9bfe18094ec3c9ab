"""Records, their validation, and where they are kept."""

import os
from typing import Any

import attrs
import cattrs
import marshmallow
import orjson
import sqlalchemy as sa
from email_validator import validate_email
from marshmallow import fields, validate
from pydantic import BaseModel, EmailStr, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite  # noqa: F401  # sqlite is found by its name

from covet import APIRouter, Response

from .errors import error_of

router = APIRouter()


class Base(orm.DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    posts: orm.Mapped[list["Post"]] = orm.relationship(back_populates="user")


class Post(Base):
    __tablename__ = "posts"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    user_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("users.id"))
    user: orm.Mapped[User] = orm.relationship(back_populates="posts")


@router.get("/sqlalchemy")
async def use_sqlalchemy() -> Any:
    count = sa.select(User.name, sa.func.count(Post.id)).join(Post).group_by(User.name)
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(User(name="ada", posts=[Post(), Post()]))
        session.commit()
        rows = [tuple(row) for row in session.execute(count)]
        user = session.scalars(sa.select(User).options(orm.selectinload(User.posts))).one()
    return {
        "rows": rows,
        "posts": [post.id for post in user.posts],
        "postgresql": " ".join(str(count.compile(dialect=postgresql.dialect())).split()),
        "file": (await error_of(lambda: sa.create_engine("sqlite:///shop.db").connect())).partition("\n")[0],
    }


@attrs.define
class Point:
    x: int = attrs.field(validator=attrs.validators.ge(0))
    tags: list[str] = attrs.field(factory=list)


@router.get("/attrs")
async def use_attrs() -> Any:
    return {"value": attrs.asdict(attrs.evolve(Point(1), tags=["a"])), "error": await error_of(lambda: Point(-1))}


@router.get("/cattrs")
def use_cattrs() -> Any:
    points = cattrs.structure([{"x": 1, "tags": ["a"]}, {"x": "2"}], list[Point])
    return cattrs.unstructure(points)


class Album(marshmallow.Schema):
    title = fields.Str(required=True, validate=validate.Length(min=2))
    released = fields.Date()
    url = fields.Url()


@router.get("/marshmallow")
def use_marshmallow() -> Any:
    album = Album().load({"title": "Hunky Dory", "released": "1971-12-17", "url": "https://example.com"})
    return {"dumped": Album().dump(album), "errors": Album().validate({"title": "x", "url": "?"})}


@router.get("/orjson")
def use_orjson() -> Response:
    text = orjson.dumps({"b": [1, 2.5, None], "a": "ä"}, option=orjson.OPT_SORT_KEYS)
    assert orjson.loads(text) == {"a": "ä", "b": [1, 2.5, None]}
    return Response(text, media_type="application/json")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")
    name: str = "Shop"
    key: SecretStr = SecretStr("k")


@router.get("/pydantic-settings")
def use_pydantic_settings() -> Any:
    """In a request, because the variables of the host are not there in the build."""
    return {"name": Settings().name, "key": str(Settings().key), "environ": sorted(os.environ)}


class Account(BaseModel):
    email: EmailStr


@router.post("/email-validator")
async def use_email_validator(account: Account) -> Any:
    return {
        "email": account.email,
        "checked": validate_email("ada@exämple.de", check_deliverability=False).ascii_email,
        "delivered": await error_of(lambda: validate_email("ada@example.org", check_deliverability=True)),
    }
