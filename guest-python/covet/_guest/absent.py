"""Stand-ins for what the standard library needs and a component does not have.

For `ssl`, which anyio, httpx and others import at the top although most of what they do needs none of it: the names are
there, contexts can be made and configured, and what would encrypt says why it cannot. For the resolver of names, which fails
as one without a network does. And for temporary files without a name, in which Starlette and others keep large uploads: they
are in memory.
"""

import enum
import io
import socket
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any, NoReturn

__all__ = ["install"]


def install() -> None:
    """Puts the stand-ins where `import` finds them. Before the application is imported."""
    if "ssl" not in sys.modules:
        try:
            import ssl  # noqa: F401
        except ImportError:
            sys.modules["ssl"] = _ssl()
    resolve_no_names(sys.modules["_socket"], socket)
    if "tempfile" in sys.modules:
        keep_in_memory(sys.modules["tempfile"])
    else:
        sys.meta_path.insert(0, _TempfileFinder())


# --- Names of hosts


def resolve_no_names(*modules: Any) -> None:
    """Changes `socket` and what it is made of.

    The C library keeps its handle of the network. If an import had it make one in the build, as that of urllib3 does, the
    handle is one that the host does not know, and the next name to be resolved would end the instance.
    """
    for module in modules:
        for name in _RESOLVERS:
            setattr(module, name, resolve_nothing)


def resolve_nothing(*arguments: Any, **options: Any) -> NoReturn:
    """Fails like a resolver without a network."""
    raise socket.gaierror(socket.EAI_FAIL, "A component has no sockets, and resolves no names")


_RESOLVERS = ("getaddrinfo", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo")


# --- Temporary files


def keep_in_memory(tempfile: Any) -> None:
    """Changes the module `tempfile`: files that have no name are in memory, and stay there however long they get."""
    tempfile.TemporaryFile = _temporary_file
    tempfile.SpooledTemporaryFile.rollover = _stay
    tempfile.SpooledTemporaryFile._check = _stay


def _temporary_file(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | None = None,
    prefix: str | None = None,
    dir: Any = None,  # noqa: A002
    *,
    errors: str | None = None,
) -> Any:
    octets = io.BytesIO()
    return octets if "b" in mode else io.TextIOWrapper(octets, encoding, errors, newline, write_through=True)


def _stay(file: Any, *_: Any) -> None:
    """In the place of what moves a file to the disk."""


class _TempfileFinder(MetaPathFinder):
    """Changes the module when it is imported: most applications do not need it."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "tempfile":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return spec
        return spec_from_file_location(fullname, spec.origin, loader=_TempfileLoader(fullname, spec.origin))


class _TempfileLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        keep_in_memory(module)


# --- ssl


def _ssl() -> ModuleType:
    module = ModuleType("ssl", "Stands in for the standard library's ssl: a component has no OpenSSL, and no sockets either.")
    names: dict[str, Any] = {value.__name__: value for value in _CLASSES}
    names |= {value.__name__: value for value in (create_default_context, get_default_verify_paths)}
    for kind in (VerifyMode, VerifyFlags, TLSVersion):
        names |= kind.__members__
    names["CertificateError"] = CertificateError
    names |= dict.fromkeys(_OPTIONS, 0) | dict.fromkeys(_FEATURES, False)
    names |= {f"PROTOCOL_{name}": number for number, name in enumerate(_PROTOCOLS)}
    # Read by urllib3, which refuses what is older.
    names |= {"OPENSSL_VERSION": "OpenSSL 3.0.0 (not there)", "OPENSSL_VERSION_INFO": (3, 0, 0, 0, 0)}
    names["_create_default_https_context"] = names["_create_unverified_context"] = create_default_context
    module.__dict__.update(names)
    for value in (*_CLASSES, create_default_context, get_default_verify_paths):
        value.__module__ = "ssl"
    return module


class SSLError(OSError):
    """What goes wrong with TLS."""

    library = ""
    reason = ""


class SSLZeroReturnError(SSLError):
    """The connection has been closed."""


class SSLWantReadError(SSLError):
    """More has to be read first."""


class SSLWantWriteError(SSLError):
    """More has to be written first."""


class SSLSyscallError(SSLError):
    """A system call failed."""


class SSLEOFError(SSLError):
    """The connection was cut off."""


class SSLCertVerificationError(SSLError, ValueError):
    """A certificate is not to be trusted."""


class VerifyMode(enum.IntEnum):
    CERT_NONE = 0
    CERT_OPTIONAL = 1
    CERT_REQUIRED = 2


class VerifyFlags(enum.IntFlag):
    VERIFY_DEFAULT = 0
    VERIFY_CRL_CHECK_LEAF = 4
    VERIFY_CRL_CHECK_CHAIN = 12
    VERIFY_X509_STRICT = 32
    VERIFY_X509_TRUSTED_FIRST = 32768
    VERIFY_X509_PARTIAL_CHAIN = 524288


class TLSVersion(enum.IntEnum):
    MINIMUM_SUPPORTED = -2
    TLSv1 = 769
    TLSv1_1 = 770
    TLSv1_2 = 771
    TLSv1_3 = 772
    MAXIMUM_SUPPORTED = -1


class Purpose(enum.Enum):
    SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
    CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"


class SSLContext:
    """Keeps its settings, and can do nothing with them."""

    def __init__(self, protocol: int | None = None) -> None:
        self.protocol = protocol
        self.check_hostname = False
        self.verify_mode = VerifyMode.CERT_NONE
        self.verify_flags, self.options = VerifyFlags.VERIFY_DEFAULT, 0
        self.minimum_version, self.maximum_version = TLSVersion.MINIMUM_SUPPORTED, TLSVersion.MAXIMUM_SUPPORTED
        self.keylog_filename: str | None = None

    def _keep_nothing(self, *arguments: Any, **options: Any) -> None:
        """For the settings that are made by calls."""

    load_cert_chain = load_default_certs = load_verify_locations = set_default_verify_paths = _keep_nothing
    set_alpn_protocols = set_ciphers = set_npn_protocols = _keep_nothing

    def _refuse(self, *arguments: Any, **options: Any) -> NoReturn:
        refuse()

    wrap_socket = wrap_bio = _refuse


class MemoryBIO:
    """Cannot be made."""

    def __init__(self) -> None:
        refuse()


class SSLObject(MemoryBIO):
    """Cannot be made."""


class SSLSocket(MemoryBIO):
    """Cannot be made."""


class SSLSession(MemoryBIO):
    """Cannot be made."""


def create_default_context(*arguments: Any, **options: Any) -> SSLContext:
    """A context that keeps its settings."""
    context = SSLContext()
    context.check_hostname, context.verify_mode = True, VerifyMode.CERT_REQUIRED
    return context


def get_default_verify_paths() -> tuple[None, None, str, None, str, None]:
    """There are no files."""
    return (None, None, "SSL_CERT_FILE", None, "SSL_CERT_DIR", None)


def refuse() -> NoReturn:
    """Says why."""
    raise SSLError("TLS is not there: a component has no OpenSSL and no sockets, the host is what talks to the network")


CertificateError = SSLCertVerificationError
_CLASSES: tuple[type, ...] = (
    *(SSLError, SSLZeroReturnError, SSLWantReadError, SSLWantWriteError, SSLSyscallError, SSLEOFError),
    *(SSLCertVerificationError, VerifyMode, VerifyFlags, TLSVersion, Purpose),
    *(SSLContext, MemoryBIO, SSLObject, SSLSocket, SSLSession),
)
_OPTIONS = (
    *("OP_ALL", "OP_NO_SSLv2", "OP_NO_SSLv3", "OP_NO_TLSv1", "OP_NO_TLSv1_1", "OP_NO_TLSv1_2", "OP_NO_TLSv1_3"),
    *("OP_NO_COMPRESSION", "OP_NO_TICKET", "OP_NO_RENEGOTIATION", "OP_IGNORE_UNEXPECTED_EOF", "OP_SINGLE_DH_USE"),
    *("OP_SINGLE_ECDH_USE", "OP_CIPHER_SERVER_PREFERENCE", "OP_LEGACY_SERVER_CONNECT"),
)
_FEATURES = (
    *("HAS_SNI", "HAS_ALPN", "HAS_NPN", "HAS_ECDH", "HAS_SSLv2", "HAS_SSLv3", "HAS_TLSv1", "HAS_TLSv1_1", "HAS_TLSv1_2"),
    *("HAS_TLSv1_3", "HAS_NEVER_CHECK_COMMON_NAME", "HAS_PSK"),
)
_PROTOCOLS = ("SSLv2", "SSLv3", "SSLv23", "TLS", "TLS_CLIENT", "TLS_SERVER", "TLSv1", "TLSv1_1", "TLSv1_2")
