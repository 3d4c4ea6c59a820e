"""Whom a client believes to be an Authnode over HTTPS."""

from __future__ import annotations

import ssl
from pathlib import Path

from cubeauth.errors import InputError
from cubeauth_runtime.files import read_text


def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later; certificate and host name always checked, against `ca_file` alone if given, else what the system trusts.

    A server's own certificate is good in `ca_file` too, as stock's `-certfile` takes it. Raises InputError naming the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
        return context
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    text = read_text(ca_file)
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise InputError("", "no certificate in PEM form", "name the file with the CA to trust", source=str(ca_file)) from None
    return context
