#!/usr/bin/env bash
# Makes guest-python/covet/_assets: Swagger UI and ReDoc, which show the OpenAPI document of an application without
# fetching anything from elsewhere. They are in the repository, so this is only run for new versions: docs-assets.sh
#   docs-assets.sh --check   says whether the files in the repository are those of the pinned packages
# Each package is named with the integrity that the npm registry gives for it: npm view NAME@VERSION dist.integrity
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh npm python3

swagger_ui=swagger-ui-dist@5.35.0
swagger_ui_integrity=sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==
# ReDoc 3 is twice as large, and its pages lead to services of others.
redoc=redoc@2.5.4
redoc_integrity=sha512-M6jWhG1qoBnH6TFmzJnstyCZ87HmOY/UzDm78mHiYihEdlV/YcS9ogOo1NlElnJMeLsyxHFe2yFc4sNjHTrABQ==

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Downloads the package $1, whose integrity is $2, into the folder $3.
unpack() {
  mkdir "$work/$3"
  (cd "$work" && npm pack --silent --ignore-scripts --pack-destination "$work/$3" "$1" >/dev/null)
  python3 - "$work/$3" "$2" <<'PYTHON'
import base64, hashlib, pathlib, sys, tarfile

folder = pathlib.Path(sys.argv[1])
(archive,) = folder.glob("*.tgz")
found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
if found != sys.argv[2]:
    sys.exit(f"docs-assets.sh: {archive.name} has the integrity {found} instead of {sys.argv[2]}")
with tarfile.open(archive) as members:
    for member in members:
        if member.isfile():
            path = folder / member.name.removeprefix("package/")
            path.resolve().relative_to(folder.resolve())
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(members.extractfile(member).read())
PYTHON
}

unpack "$swagger_ui" "$swagger_ui_integrity" swagger-ui
unpack "$redoc" "$redoc_integrity" redoc

python3 - "$work" "$swagger_ui" "$redoc" "${1:-}" <<'PYTHON'
import gzip, pathlib, sys

work, (swagger_ui, redoc), mode = pathlib.Path(sys.argv[1]), sys.argv[2:4], sys.argv[4]
into = pathlib.Path("guest-python/covet/_assets")
compressed = {
    "favicon.png": "swagger-ui/favicon-32x32.png",
    "oauth2-redirect.js": "swagger-ui/oauth2-redirect.js",
    "redoc.standalone.js": "redoc/bundles/redoc.standalone.js",
    "swagger-ui-bundle.js": "swagger-ui/swagger-ui-bundle.js",
    "swagger-ui.css": "swagger-ui/swagger-ui.css",
}
# The names under which the scripts refer to them.
texts = {
    "redoc.standalone.js.LICENSE.txt": (redoc, ["redoc/LICENSE", "redoc/bundles/redoc.standalone.js.LICENSE.txt"]),
    "swagger-ui-bundle.js.LICENSE.txt": (
        swagger_ui,
        ["swagger-ui/NOTICE", "swagger-ui/LICENSE", "swagger-ui/swagger-ui-bundle.js.LICENSE.txt"],
    ),
}
contents = {name: (work / source).read_bytes() for name, source in compressed.items()}
for name, (package, sources) in texts.items():
    parts = [f"{package}, from the npm registry, unchanged.\n".encode(), *((work / source).read_bytes() for source in sources)]
    contents[name] = b"\n\n".join(part.strip() for part in parts) + b"\n"
if mode == "--check":
    # What is compressed, and not the compressed files: zlib is not the same everywhere.
    wrong = [name for name in compressed if gzip.decompress((into / f"{name}.gz").read_bytes()) != contents[name]]
    wrong += [name for name in texts if (into / name).read_bytes() != contents[name]]
    sys.exit(f"docs-assets.sh: not as in the packages: {', '.join(wrong)}" if wrong else 0)
into.mkdir(exist_ok=True)
for name, content in contents.items():
    # Without the time, so that the same packages give the same files.
    path = into / (f"{name}.gz" if name in compressed else name)
    path.write_bytes(gzip.compress(content, 9, mtime=0) if name in compressed else content)
    print(f"{path} {path.stat().st_size}")
PYTHON
