"""Formats, languages, dates."""

import datetime
import io
import zipfile
import zoneinfo
from typing import Any

import markdown
import slugify
import text_unidecode  # noqa: F401  # slugify imports it when it is first needed
import yaml
from bs4 import BeautifulSoup
from dateutil import parser, relativedelta, rrule, tz
from markdown.extensions import fenced_code, tables  # noqa: F401  # found by their names
from rich.console import Console
from rich.table import Table

from covet import APIRouter

router = APIRouter()


@router.get("/pyyaml")
def use_pyyaml() -> Any:
    loaded = yaml.safe_load("a: [1, 2.5, true]\nb: &x {c: ä}\nd: *x\n")
    return {"loaded": loaded, "dumped": yaml.safe_dump({"a": [1, "x"]})}


@router.get("/beautifulsoup4")
def use_beautifulsoup4() -> Any:
    soup = BeautifulSoup("<p class=a>One<p>Two <a href=/x>link</a>", "html.parser")
    return [soup.select_one("p.a").contents[0], *(link["href"] for link in soup.find_all("a"))]


@router.get("/markdown")
def use_markdown() -> str:
    return markdown.markdown("# A\n\n|a|b|\n|-|-|\n|1|2|\n", extensions=["tables", "fenced_code"])


@router.get("/rich")
def use_rich() -> str:
    console = Console(file=io.StringIO(), width=30)
    table = Table("Name", "Price")
    table.add_row("Lamp", "[bold]40[/bold]")
    console.print(table)
    console.print_json('{"a":1}')
    return console.file.getvalue()


@router.get("/python-slugify")
def use_python_slugify() -> Any:
    return [slugify.slugify("Ünïcode & Größe"), slugify.slugify("影師嗎")]


@router.get("/python-dateutil")
def use_python_dateutil() -> Any:
    start = parser.parse("23 Nov 2026 10:00 CET", tzinfos={"CET": tz.gettz("Europe/Berlin")})
    return {
        "parsed": start.isoformat(),
        "later": str((start + relativedelta.relativedelta(months=+3, day=31)).date()),
        "rule": [day.day for day in rrule.rrule(rrule.WEEKLY, count=3, dtstart=start)],
    }


@router.get("/tzdata")
def use_tzdata() -> Any:
    times = [datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo(name)) for name in ("Europe/Berlin", "Asia/Kolkata")]
    return [time.isoformat() for time in times]


@router.get("/zipfile")
def use_zipfile() -> Any:
    """Of the standard library: packages for office documents are built on it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "text" * 100)
    with zipfile.ZipFile(file) as archive:
        return [archive.namelist(), len(archive.read("a.txt"))]
