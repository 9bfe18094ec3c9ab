# Sourced: takes packages from Debian's backports without touching the system's apt, and without root.

# It carries rust-src of several recent compilers, and a wasi-libc that knows wasip2; Debian 12 and 13 have neither.
readonly SUITE=trixie-backports
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# An apt of its own in the folder $1: one suite, its own lists and cache, no package counted as installed. The system's
# configuration, and with it a proxy, stays in force.
open_backports() {
    local lists=$1 tool
    for tool in apt-get apt-cache dpkg-deb; do
        command -v "$tool" >/dev/null || fail "there is no $tool"
    done
    mkdir -p "$lists"/{empty,state/lists/partial,cache/archives/partial}
    : >"$lists/status"
    [[ -f $KEYRING ]] || fail "$KEYRING is missing: this needs Debian's keys (package debian-archive-keyring)"
    echo "deb [signed-by=$KEYRING] $(mirror) $SUITE main" >"$lists/sources.list"
    APT_OPTIONS=(
        -o Dir::Etc::SourceList="$lists/sources.list" -o Dir::Etc::SourceParts="$lists/empty"
        -o Dir::Etc::Preferences="$lists/no-preferences" -o Dir::Etc::PreferencesParts="$lists/empty"
        -o Dir::State="$lists/state" -o Dir::State::status="$lists/status" -o Dir::Cache="$lists/cache"
        -o Acquire::Languages=none
        # Root's apt would download as the user _apt, who may not write here.
        -o APT::Sandbox::User="$(id -un)"
        # A frozen mirror keeps its packages and lets its Release file expire. Its signature is checked all the same;
        # what is given up is to notice that a mirror withholds newer packages, and here an exact version is wanted.
        -o Acquire::Check-Valid-Until=false
    )
    apt-get "${APT_OPTIONS[@]}" -qq update >&2 || fail "cannot read $SUITE from $(mirror)"
}

# The versions of the package $1, the newest last.
versions_of() {
    apt-cache "${APT_OPTIONS[@]}" madison "$1" | awk '{print $3}' | sort -Vu
}

# Downloads the package $2 (NAME or NAME=VERSION) into the folder $1.
download_package() {
    (cd "$1" && apt-get "${APT_OPTIONS[@]}" -qq download "$2" >&2) || fail "cannot download $2"
}

# The Debian mirror that the machine uses, else the one for all.
mirror() {
    { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{sources,list} 2>/dev/null || true; } |
        awk '
            ($1 == "URIs:" || $1 == "deb") {
                for (i = 2; i <= NF; i++)
                    if ($i ~ /^https?:.*\/debian\/?$/) { print $i; found = 1; exit }
            }
            END { if (!found) print "http://deb.debian.org/debian" }'
}
