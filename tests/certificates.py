"""Certificates for servers on loopback."""

import ssl
import subprocess
from pathlib import Path

import pytest


def certified_for(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for `name` ("DNS:..." or "IP:...") that this process trusts."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ["-subj", "/CN=example", "-addext", f"subjectAltName={name}"]
    made = ["-keyout", str(key), "-out", str(certificate), "-nodes", "-days", "2"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "req", "-x509", *kind, *made, *names], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
