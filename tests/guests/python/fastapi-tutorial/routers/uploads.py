"""Forms and files, and bodies as they come."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from pydantic import BaseModel

router = APIRouter(tags=["uploads"])


class FormData(BaseModel):
    username: str
    age: int = 0


@router.post("/form")
async def read_form(data: Annotated[FormData, Form()]) -> FormData:
    return data


@router.post("/files")
def read_bytes(file: Annotated[bytes, File()], note: Annotated[str, Form()] = "") -> dict[str, Any]:
    return {"size": len(file), "note": note}


@router.post("/uploadfiles")
async def read_uploads(files: list[UploadFile]) -> list[dict[str, Any]]:
    found = []
    for file in files:
        digest = hashlib.sha256()
        while piece := await file.read(64 * 1024):
            digest.update(piece)
        found.append({"name": file.filename, "type": file.content_type, "size": file.size, "sha256": digest.hexdigest()})
    return found


@router.post("/digest")
async def read_stream(request: Request) -> dict[str, Any]:
    digest = hashlib.sha256()
    pieces = size = 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
        pieces += bool(piece)
    return {"size": size, "pieces": pieces, "sha256": digest.hexdigest()}


@router.post("/body")
async def read_body(request: Request) -> dict[str, Any]:
    body = await request.body()
    return {"size": len(body), "again": len(await request.body()), "is_json": (await request.json()) is not None}
