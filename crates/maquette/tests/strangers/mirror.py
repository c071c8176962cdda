"""A mirror of packages for tests: what this machine has of Node's and Python's packages, as their registries would give it.

Usage: mirror.py ADDRESS. Prints a line when it listens. It answers to everybody who can connect, so it belongs on a loopback address.
"""

import base64, glob, hashlib, io, json, os, re, sys, tarfile, zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NODE = "/usr/share/nodejs"
PYTHON = "/usr/lib/python3/dist-packages"


def node_archive(name, version):
    """A package of Node's, said to be of the version that was asked for."""
    root = os.path.join(NODE, name)
    with open(os.path.join(root, "package.json")) as file:
        about = json.load(file)
    about["version"] = version
    about.pop("scripts", None)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for directory, _, files in sorted(os.walk(root)):
            for file in sorted(files):
                path = os.path.join(directory, file)
                with open(path, "rb") as opened:
                    content = opened.read()
                if path == os.path.join(root, "package.json"):
                    content = json.dumps(about).encode()
                entry = tarfile.TarInfo(os.path.join("package", os.path.relpath(path, root)))
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def python_about(name):
    """The directory in which a distribution describes itself, and its version."""
    name = {"psycopg2-binary": "psycopg2"}.get(name, name)
    for path in glob.glob(PYTHON + "/*-info"):
        found = re.match(r"(.+?)-([0-9][^-]*)(-py[0-9.]+)?\.(egg|dist)-info$", os.path.basename(path))
        if found and normal(found[1]) == name and os.path.isdir(path):
            return path, found[1], found[2]
    return None


def python_wheel(name):
    """A distribution as a wheel, whatever it was installed from."""
    about, own, version = python_about(name)
    tops = glob.glob(about + "/top_level.txt")
    tops = open(tops[0]).read().split() if tops else [own.lower()]
    files = {}
    for top in tops:
        for path in [os.path.join(PYTHON, top)] + glob.glob(os.path.join(PYTHON, top + ".*")):
            if os.path.isfile(path):
                files[os.path.basename(path)] = open(path, "rb").read()
            for directory, _, inner in os.walk(path):
                for file in inner:
                    whole = os.path.join(directory, file)
                    if "__pycache__" not in whole:
                        files[os.path.relpath(whole, PYTHON)] = open(whole, "rb").read()
    info = "%s-%s.dist-info/" % (name.replace("-", "_"), version)
    for file in ("METADATA", "PKG-INFO"):
        if os.path.exists(os.path.join(about, file)):
            text = open(os.path.join(about, file)).read()
    text = re.sub(r"(?m)^Name: .*$", "Name: " + name, text, count=1)
    requires = os.path.join(about, "requires.txt")
    if os.path.exists(requires) and "Requires-Dist:" not in text:
        # Up to the first section they are wanted always.
        lines = open(requires).read().split("[")[0].split()
        head, _, body = text.partition("\n\n")
        text = head.rstrip("\n") + "".join("\nRequires-Dist: " + line for line in lines) + "\n\n" + body
    files[info + "METADATA"] = text.encode()
    files[info + "WHEEL"] = b"Wheel-Version: 1.0\nGenerator: a-test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    entries = os.path.join(about, "entry_points.txt")
    if os.path.exists(entries):
        files[info + "entry_points.txt"] = open(entries, "rb").read()
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\n" % (path, digest, len(content))
    files[info + "RECORD"] = (record + info + "RECORD,,\n").encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return out.getvalue()


class Mirror(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            content, kind = self.page(self.path)
        except (OSError, TypeError, ValueError):
            content, kind = None, None
        self.send_response(200 if content else 404)
        self.send_header("content-type", kind or "text/plain")
        self.send_header("content-length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def page(self, path):
        if found := re.fullmatch(r"/simple/([a-z0-9-]+)/", path):
            _, _, version = python_about(found[1])
            file = "%s-%s-py3-none-any.whl" % (found[1].replace("-", "_"), version)
            return ('<!DOCTYPE html><a href="/wheels/%s">%s</a>' % (file, file)).encode(), "text/html"
        if found := re.fullmatch(r"/wheels/([a-z0-9_]+)-[^/]+\.whl", path):
            return python_wheel(found[1].replace("_", "-")), "application/octet-stream"
        if found := re.fullmatch(r"/((?:@[a-z0-9-]+/)?[a-z0-9-]+)/-/[a-z0-9-]+?-([0-9][0-9.]*)\.tgz", path):
            return node_archive(found[1], found[2]), "application/octet-stream"
        return None, None

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer((sys.argv[1], 80), Mirror)
print("ready", flush=True)
server.serve_forever()
