"""Fetches wheels and unpacks a libtorch from them; run by `cargo xtask libtorch`.

wheels.py installed                        prints the folder of a PyTorch that this Python has
wheels.py fetch FOLDER NAME SHA256 ...     fetches the wheels of these file names
wheels.py unpack FLAVOR FOLDER WHEEL ...   unpacks them into FOLDER; FLAVOR is cpu or another, with CUDA
"""

import hashlib
import os
import re
import shutil
import sys
import time
import zipfile

CHUNK = 1 << 20
TRIES = 6


def fail(message):
    sys.exit("error: " + message)


def say(message):
    print(message, file=sys.stderr, flush=True)


def installed():
    """The folder and version of this Python's PyTorch, found without importing it."""
    import importlib.util

    found = importlib.util.find_spec("torch")
    if found is None or not found.origin:
        return
    folder = os.path.dirname(found.origin)
    with open(os.path.join(folder, "version.py")) as text:
        version = re.search(r"__version__ = ['\"]([^'\"]+)", text.read())
    if version:
        print(version.group(1))
        print(folder)


class Index:
    """pip's own view of the package index: the user's settings, certificates and credentials hold."""

    def __init__(self):
        from pip._internal.commands import create_command

        # The command's name alone is of no matter; its options are the user's settings for `pip download`.
        self.command = create_command("download")
        self.options, _ = self.command.parse_args(["--quiet", "torch"])
        self.context = self.command.main_context()
        self.context.__enter__()
        self.session = self.command._build_session(self.options)

    def address(self, filename, folder):
        from pip._internal.models.target_python import TargetPython

        target = TargetPython(py_version_info=(3, 12), implementation="cp", abis=["cp312"])
        finder = self.command._build_package_finder(
            options=self.options, session=self.session, target_python=target, ignore_requires_python=True
        )
        project = filename.split("-")[0].replace("_", "-")
        for candidate in finder.find_all_candidates(project):
            if candidate.link.filename == filename:
                return candidate.link
        fail(
            f"pip's package index has no {filename}; set LIBTORCH to a libtorch, "
            f"or put the file into {folder} and start again"
        )


class Progress:
    def __init__(self, name, done, total):
        self.name, self.done, self.total, self.shown = name.split("-")[0], done, total, 0.0
        self.terminal = sys.stderr.isatty()
        self.step = 0.2 if self.terminal else 5.0

    def add(self, count):
        self.done += count
        now = time.monotonic()
        if now - self.shown >= self.step or self.done == self.total:
            self.shown = now
            share = f" of {self.total >> 20} MiB ({100 * self.done // self.total} %)" if self.total else " MiB"
            text = f"  {self.name}: {self.done >> 20}{share}"
            print(text, file=sys.stderr, end="\r" if self.terminal and self.done != self.total else "\n", flush=True)


def digest(path):
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def download(session, url, part):
    """Goes on where the .part file ends; a server that sends everything again starts it anew."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with session.get(url, headers=headers, stream=True) as answer:
        if answer.status_code == 416:  # The .part file is as long as the whole, or longer.
            return
        answer.raise_for_status()
        if answer.status_code != 206:
            have = 0
        length = answer.headers.get("Content-Length")
        progress = Progress(os.path.basename(part), have, have + int(length) if length else 0)
        with open(part, "ab" if have else "wb") as file:
            while chunk := answer.raw.read(CHUNK):
                file.write(chunk)
                progress.add(len(chunk))
        if progress.total and progress.done != progress.total:
            raise OSError(f"the connection ended after {progress.done} of {progress.total} bytes")


def fetch(folder, filename, sha256, index):
    """One wheel, whole and right, in the folder."""
    path = os.path.join(folder, filename)
    part = path + ".part"
    if os.path.exists(path):
        if digest(path) == sha256:
            return index
        say(f"  {filename} is damaged; fetching it again")
        os.remove(path)
    index = index or Index()
    link = index.address(filename, folder)
    if link.is_file:
        shutil.copyfile(link.file_path, part)
    for attempt in range(TRIES):
        if not link.is_file:
            try:
                download(index.session, link.url_without_fragment, part)
            except Exception as error:  # requests' and urllib3's errors have no common base that is public
                if attempt + 1 == TRIES:
                    fail(f"{filename}: {error}; start again to go on where this ended")
                say(f"  {filename}: {error}; trying again")
                time.sleep(2**attempt)
                continue
        found = digest(part)
        if found == sha256:
            os.replace(part, path)
            return index
        os.remove(part)
        say(f"  {filename}: SHA-256 {found} instead of {sha256}; fetching it from the beginning")
        if link.is_file or attempt >= 1:
            break
    fail(f"{filename}: the package index serves another file than the pinned one (SHA-256 {sha256})")


TORCH = r"torch/lib/lib(torch_cpu|c10|gomp[^/]*)\.so[^/]*"
TORCH_CUDA = r"torch/lib/lib(torch(_cpu|_cuda|_cuda_linalg|_nvshmem)?|c10(_cuda)?|caffe2_nvrtc|gomp[^/]*)\.so[^/]*"
# Two that libtorch_cpu.so loads.
CUDA_OF_CPU = r"nvidia/.*/(libcudart\.so\.\d+|libcupti\.so\.\d+)"
# All but profilers, other libraries' interfaces and solvers for several GPUs.
CUDA = (
    r"nvidia/[^/]+/lib/"
    r"(?!libnvperf|libpcsampling|libcheckpoint|libcufftw|libnvblas|libcusolverMg|[^/]*\.alt\.)([^/]+\.so[^/]*)"
)
CUDA_HEADER = r"nvidia/(?:cu\d+|nccl)/(include/.*)"


def wanted(name, flavor):
    """Where a wheel's file goes in libtorch's layout; None where it is not needed."""
    if name.endswith("/"):
        return None
    if name.startswith("torch/include/"):
        return name[len("torch/") :]
    cpu = flavor == "cpu"
    if re.fullmatch(TORCH if cpu else TORCH_CUDA, name):
        return name[len("torch/") :]
    if library := re.fullmatch(CUDA_OF_CPU if cpu else CUDA, name):
        return "lib/" + library.group(1)
    header = None if cpu else re.fullmatch(CUDA_HEADER, name)
    return "cuda/" + header.group(1) if header else None


def unpack(flavor, folder, wheels):
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                place = wanted(entry.filename, flavor)
                if place is None:
                    continue
                path = os.path.join(folder, place)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(entry) as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target, CHUNK)


def main():
    if sys.version_info < (3, 9):
        fail(f"Python 3.9 or newer is needed, {sys.executable} is {sys.version.split()[0]}")
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "installed":
        installed()
    elif what == "fetch":
        try:
            import pip  # noqa: F401
        except ImportError:
            fail(f"{sys.executable} has no pip; install it (Debian, Ubuntu: apt-get install python3-pip)")
        folder, index = rest[0], None
        os.makedirs(folder, exist_ok=True)
        for filename, sha256 in zip(rest[1::2], rest[2::2]):
            index = fetch(folder, filename, sha256, index)
    elif what == "unpack":
        unpack(rest[0], rest[1], rest[2:])
    else:
        fail(f"unknown command {what}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        fail(str(error))
