"""Authorities and server certificates for targets, made by the `openssl` command."""

import pathlib
import subprocess


def _openssl(*words):
    subprocess.run(["openssl", *map(str, words)], stdin=subprocess.DEVNULL,
                   capture_output=True, check=True)


def _key(file):
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", file]


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder, name):
        self.folder = pathlib.Path(folder)
        self.file = self.folder / f"{name}.crt"
        self.key_file = self.folder / f"{name}.key"
        _openssl("req", "-x509", *_key(self.key_file), "-out", self.file, "-days", "2",
                 "-subj", f"/CN={name}")

    def issue(self, name, names):
        """`(certificate file, key file)` for subject alternative names like `IP:127.0.0.1`."""
        request = self.folder / f"{name}.csr"
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n"
                              "basicConstraints=CA:FALSE\n")
        _openssl("req", *_key(key), "-out", request, "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.key_file,
                 "-CAcreateserial", "-out", certificate, "-days", "2", "-extfile", extensions)
        return certificate, key
