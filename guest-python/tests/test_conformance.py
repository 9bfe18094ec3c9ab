"""The OpenAPI document against tools that are not ours: a validator of documents, and schemathesis against the running host."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application that `covet new` makes."""
    folder = tmp_path_factory.mktemp("conformance") / "shop"
    covet("new", str(folder), "--template", "api")
    return folder


def covet(*arguments: str) -> str:
    """Runs the command in a process of its own, since it imports applications."""
    command = [sys.executable, "-m", "covet.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_document_is_valid(project):
    from openapi_spec_validator import OpenAPIV31SpecValidator

    document = json.loads(covet("openapi", "main:app", "--project", str(project)))
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


@pytest.mark.build
@pytest.mark.host
def test_the_application_does_what_its_document_says(project, covet_host, tmp_path):
    """Thousands of requests that fit the document, and that do not: no 5xx, no answer that the document does not allow, nothing
    wrong accepted, nothing right refused."""
    checks = "not_a_server_error,content_type_conformance,response_schema_conformance"
    checks += ",positive_data_acceptance,missing_required_header,unsupported_method,allow_header_conformance"
    with covet_host("main:app", project=project, isolation="fresh") as client:
        # What fails on purpose, and what streams without an end, is left out.
        run(client.base_url, tmp_path, f"{checks},negative_data_rejection", 12, "--exclude-path-regex", OWN_RULES)
        # In a form everything is text, so that a number in the place of a text is nothing wrong.
        run(client.base_url, tmp_path, checks, 1, "--include-path", "/upload")


OWN_RULES = "^/(errors|crash|events|stream|upload)"


def run(url: object, folder: Path, checks: str, operations: int, *selection: str) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", checks, *selection]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "40"]
    command += ["--seed", "1", "--generation-database", "none", "--no-color", "--continue-on-failure"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert f"Tested: {operations}" in result.stdout
