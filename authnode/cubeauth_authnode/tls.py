"""TLS for the ticket port: 1.2 and 1.3, and certificates that can be changed while it serves."""

from __future__ import annotations

import logging
import ssl

from cubeauth.errors import InputError
from cubeauth_authnode.config import TlsFiles

log = logging.getLogger("cubeauth.tls")


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """A server's context. Raises InputError for a certificate and key that cannot be used together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    try:
        # A password of none: a key that has one is refused; otherwise OpenSSL asks the terminal, and waits.
        context.load_cert_chain(files.certificate, files.key, password="")
    except (OSError, ssl.SSLError) as e:
        problem = f"certificate and key cannot be used: {_why(e, files)}"
        raise InputError(files.setting, problem, "the key must be the certificate's own, both PEM") from None
    return context


def _why(error: OSError, files: TlsFiles) -> str:
    """OpenSSL says `PEM lib` of either file."""
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return f"{files.key} is not the key of {files.certificate}"
    if isinstance(error, ssl.SSLError):
        said = f" ({reason})" if reason else ""
        return f"{files.certificate} is no certificate in PEM form, or {files.key} no key in PEM form without a password{said}"
    return f"{error.filename or files.certificate}: {error.strerror or 'cannot be read'}"


Stamp = tuple[tuple[int, int, int], ...]


def stamp(files: TlsFiles) -> Stamp:
    """What changes when a file is replaced: inode, size and time of both; empty while one cannot be seen."""
    try:
        stats = (files.certificate.stat(), files.key.stat())
    except OSError:
        return ()
    return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)


class Reloader:
    """The context in use, renewed when the files change. A pair that does not fit is left alone and said in the log."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = stamp(files)
        self.context = make_context(files)

    def check(self, *, force: bool = False) -> None:
        """Look at the files; connections that come from now on see what is new."""
        now = stamp(self._files)
        if not now or (now == self._stamp and not force):
            return
        self._stamp = now
        try:
            self.context = make_context(self._files)
        except InputError as e:
            log.error("certificate not reloaded, the one before stays in use: %s", e)
        else:
            log.info("certificate reloaded", extra={"file": str(self._files.certificate)})
