"""Starts the shop and its engines bare on this machine's loopback, without containers.

    /usr/bin/python3 test/bare.py [--shop DIR] [--freeze SECONDS] [--keep]

For work on the shop itself: runs test/flow.py against it and prints how long each service took to
get healthy and what memory it holds. With --freeze it stops everything for a while, as a sleeping
environment would be, and orders again. --keep leaves it running until Ctrl-C. Needs Debian's
packages of PostgreSQL, Redis, RabbitMQ and Node. Started as root, it gives root up for the engines.
"""

import argparse
import glob
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SHOP = pathlib.Path(__file__).resolve().parent.parent
PYTHON, NODE = "/usr/bin/python3", shutil.which("node") or "node"
SERVICES = {
    "catalog": [PYTHON, "-m", "catalog"],
    "cart": [NODE, "cart/server.js"],
    "orders": [PYTHON, "-m", "orders"],
    "payments": [PYTHON, "-m", "payments"],
    "mail": [PYTHON, "-m", "mail"],
    "web": [NODE, "web/server.js"],
}


class Bare:
    """The processes, in the order in which they were started."""

    def __init__(self, directory, shop):
        self.dir, self.shop, self.processes = pathlib.Path(directory), shop, {}
        names = ["postgres", "redis", "rabbitmq", "epmd", "erlang", *SERVICES]
        self.ports = dict(zip(names, free_ports(len(names))))
        self.log = open(self.dir / "log", "wb")

    def spawn(self, name, argv, env=None, user=None, cwd="/"):
        self.processes[name] = subprocess.Popen(
            argv, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(env or {})}, **become(user), cwd=cwd, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)

    def postgres(self):
        bins = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))[-1]
        home, user = self.home("postgres", "postgres")
        data, port = str(home / "data"), str(self.ports["postgres"])
        password = home / "password"
        password.write_text("shop")
        if user:
            shutil.chown(password, user)
        subprocess.run([f"{bins}/initdb", "-D", data, "-U", "shop", "--pwfile", str(password), "-A", "scram-sha-256", "--no-sync"],
                       check=True, stdout=self.log, cwd="/", **become(user))
        self.spawn("postgres", [f"{bins}/postgres", "-D", data, "-p", port, "-k", str(home), "-c", "listen_addresses=127.0.0.1",
                                "-c", "fsync=off", "-c", "max_connections=40"], user=user)
        psql = [f"{bins}/psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", port, "-U", "shop"]
        env = {**os.environ, "PGPASSWORD": "shop"}
        until("postgres", lambda: subprocess.run([*psql, "-d", "postgres", "-c", "CREATE DATABASE shop"], env=env, check=True, stderr=self.log))
        scripts = [*sorted(glob.glob(f"{self.shop}/db/migrations/*.sql")), f"{self.shop}/db/seed.sql"]
        for script in scripts:
            subprocess.run([*psql, "-d", "shop", "-1", "-f", script], env=env, check=True)

    def redis(self):
        home, user = self.home("redis", "redis")
        self.spawn("redis", ["/usr/bin/redis-server", "--bind", "127.0.0.1", "--port", str(self.ports["redis"]), "--save", "", "--dir", str(home)], user=user)

    def rabbitmq(self):
        home, user = self.home("rabbitmq", "rabbitmq")
        config = home / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.local = 127.0.0.1:{self.ports['rabbitmq']}\ndefault_user = shop\ndefault_pass = shop\n"
                          "default_permissions.configure = .*\ndefault_permissions.read = .*\ndefault_permissions.write = .*\n")
        env = {"HOME": str(home), "RABBITMQ_NODENAME": f"shop{os.getpid()}@localhost", "RABBITMQ_CONFIG_FILE": str(config),
               "RABBITMQ_MNESIA_BASE": str(home), "RABBITMQ_LOGS": "-", "RABBITMQ_PID_FILE": str(home / "pid"),
               "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"), "RABBITMQ_DIST_PORT": str(self.ports["erlang"]),
               "ERL_EPMD_PORT": str(self.ports["epmd"]), "ERL_EPMD_ADDRESS": "127.0.0.1",
               "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"}
        # epmd as a child of ours: one that RabbitMQ starts would outlive it.
        self.spawn("epmd", ["/usr/bin/epmd"], env=env, user=user)
        until("epmd", lambda: socket.create_connection(("127.0.0.1", self.ports["epmd"]), 1).close())
        self.spawn("rabbitmq", ["/usr/lib/rabbitmq/bin/rabbitmq-server"], env=env, user=user)

    def home(self, name, owner):
        """A directory for an engine, and the user to run it as (None: ourselves)."""
        path = self.dir / name
        path.mkdir(mode=0o700)
        user = owner if os.geteuid() == 0 else None
        if user:
            account = pwd.getpwnam(user)
            os.chown(path, account.pw_uid, account.pw_gid)
        return path, user

    def services(self):
        """Starts the six at once, and returns the milliseconds until each was healthy."""
        url = lambda name: f"http://127.0.0.1:{self.ports[name]}"
        env = {"DATABASE_URL": f"postgres://shop:shop@127.0.0.1:{self.ports['postgres']}/shop",
               "REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}", "AMQP_URL": f"amqp://shop:shop@127.0.0.1:{self.ports['rabbitmq']}",
               **{f"{name.upper()}_URL": url(name) for name in SERVICES},
               **{key: value for key, value in os.environ.items() if key.startswith(("MAQUETTE_", "AMQP_HEART"))}}
        started = time.monotonic()
        for name, argv in SERVICES.items():
            self.spawn(name, argv, env={**env, "PORT": str(self.ports[name])}, user="nobody" if os.geteuid() == 0 else None, cwd=self.shop)
        healthy = {}
        while len(healthy) < len(SERVICES):
            for name in [n for n in SERVICES if n not in healthy]:
                if self.processes[name].poll() is not None:
                    sys.exit(f"{name} has ended:\n{(self.dir / 'log').read_text(errors='replace')[-2000:]}")
                try:
                    urllib.request.urlopen(f"{url(name)}/healthz", timeout=2).read()
                    healthy[name] = round((time.monotonic() - started) * 1000)
                except OSError as error:
                    if time.monotonic() - started > 90:
                        sys.exit(f"{name} is not healthy: {error}\n{(self.dir / 'log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.003)
        return healthy

    def signal(self, number):
        """Sends a signal to the process groups of all that were started."""
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, number)

    def stop(self):
        for name in reversed(list(self.processes)):
            process = self.processes[name]
            if process.poll() is None:
                # PostgreSQL shuts down fast on SIGINT; SIGTERM would wait for its clients.
                os.killpg(process.pid, signal.SIGINT if name == "postgres" else signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def become(user):
    """What `subprocess` needs to run something as `user` (None: as ourselves)."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(what, attempt, seconds=30):
    ends = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (OSError, subprocess.CalledProcessError) as error:
            if time.monotonic() > ends:
                sys.exit(f"{what}: {error}")
        time.sleep(0.05)


def memory(pid):
    """RSS and PSS of a process in MB."""
    sizes = {}
    for line in open(f"/proc/{pid}/smaps_rollup"):
        key, _, rest = line.partition(":")
        if key in ("Rss", "Pss"):
            sizes[key.lower()] = round(int(rest.split()[0]) / 1024, 1)
    return sizes


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--shop", type=pathlib.Path, default=SHOP, help="the checkout to run (default: this one)")
    options.add_argument("--freeze", type=float, metavar="SECONDS", help="freeze everything for so long, then order again")
    options.add_argument("--keep", action="store_true", help="keep running until Ctrl-C")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="shop-bare-") as directory:
        os.chmod(directory, 0o755)
        bare = Bare(directory, chosen.shop.resolve())
        try:
            run(bare, chosen)
        finally:
            bare.signal(signal.SIGCONT)
            bare.stop()


def run(bare, chosen):
    bare.rabbitmq()
    bare.redis()
    bare.postgres()
    until("rabbitmq", lambda: socket.create_connection(("127.0.0.1", bare.ports["rabbitmq"]), 1).close(), 60)
    healthy = bare.services()
    base = f"http://127.0.0.1:{bare.ports['web']}"
    print(f"the shop is at {base}", flush=True)
    flow = [sys.executable, str(bare.shop / "test/flow.py"), base]
    subprocess.run(flow, check=True)
    print(json.dumps({name: {"healthy_ms": healthy[name], **memory(bare.processes[name].pid)} for name in SERVICES}, indent=1), flush=True)
    if chosen.freeze:
        bare.signal(signal.SIGSTOP)
        time.sleep(chosen.freeze)
        bare.signal(signal.SIGCONT)
        subprocess.run(flow, check=True)
        print(f"and again after {chosen.freeze:g} s frozen", flush=True)
    try:
        while chosen.keep:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
