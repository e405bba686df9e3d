"""Who takes part in the comparison of reads, all serving one catalogue at the same time."""

import gzip
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.catalogue import Catalogue, write_naive
from bench.client import Answer, fetch
from bench.findings import Findings
from bench.load import Target
from bench.peers.install import PACKAGES, PEERS, PeerFailed
from bench.plan import Plan
from bench.processes import Server, ServerFailed
from bench.servers import SITE, nginx_front, nginx_static, roster, yardstick

GZIP = {"Accept-Encoding": "gzip"}

#: The bare Flask view, served by Roster's own worker class: it gains what our worker gains.
IN_OUR_WORKER = "bare Flask in our worker"


class Contest:
    """Who takes part, for one catalogue; started by `enter`, stopped with `stack`."""

    def __init__(
        self, stack: ExitStack, plan: Plan, catalogue: Catalogue, folder: Path, found: Findings
    ) -> None:
        self._stack = stack
        self._plan = plan
        self._catalogue = catalogue
        self._folder = folder
        self._found = found
        #: What is asked of whom, by case and name.
        self.targets: dict[tuple[str, str], Target] = {}
        self._service = stack.enter_context(roster(catalogue.instance))
        self._replies = Replies(catalogue, self._service)
        self._body = folder / "body.json"
        self._body.write_bytes(self._replies.plain.body)
        self._gzipped = self._compressed_body()

    @property
    def sizes(self) -> str:
        """Return how long the reply is, in words."""
        plain = f"{len(self._replies.plain.body):,} bytes"
        if self._gzipped is None:
            return plain
        return f"{plain}, {len(self._replies.compressed.body):,} as gzip"

    def enter(self) -> None:
        """Start all that were asked for; what cannot start is a note."""
        cases = self._replies.cases(with_gzip=self._gzipped is not None)
        for case, (headers, status) in cases.items():
            self.targets[case, "service"] = Target(self._service, headers=headers, status=status)
        self._bare("bare Flask", "bare_flask")
        self._bare(IN_OUR_WORKER, "bare_flask", BENCH_WORKER="roster")
        self._bare("bare WSGI", "bare_wsgi")
        self._naive()
        self._nginx()
        if self._plan.peers and self._catalogue.size < 10_000:
            self._peers()

    def _compressed_body(self) -> Path | None:
        reply = self._replies.compressed
        if reply.headers.get("content-encoding") != "gzip":
            self._found.note(
                f"{self._catalogue.size:,} entries: the service sends {len(reply.body):,} bytes "
                "without gzip, so there are no gzip rows."
            )
            return None
        if gzip.decompress(reply.body) != self._replies.plain.body:
            self._found.note(f"{self._catalogue.size:,} entries: gzip says something else.")
        path = self._folder / "body.json.gz"
        path.write_bytes(reply.body)
        return path

    def _wanted(self, *names: str) -> bool:
        return not self._plan.subjects or bool(set(names) & set(self._plan.subjects))

    def _bare(self, who: str, module: str, **environ: str) -> None:
        if not self._wanted(who):
            return
        kinds = [("", {"BENCH_BODY": str(self._body)})]
        if self._gzipped is not None and who != IN_OUR_WORKER:
            kinds.append((" gzip", {"BENCH_BODY": str(self._gzipped), "BENCH_ENCODING": "gzip"}))
        for kind, body in kinds:
            server = self._stack.enter_context(yardstick(self._folder, module, **environ, **body))
            for case in (f"200{kind}", f"200 key{kind}"):
                headers = self.targets[case, "service"].headers
                self.targets[case, who] = Target(server, headers=headers)

    def _naive(self) -> None:
        if not self._wanted("naive Flask"):
            return
        database = self._folder / "naive.db"
        write_naive(database, self._replies.plain.json["data"])
        server = self._stack.enter_context(
            yardstick(self._folder, "naive_flask", BENCH_DATABASE=str(database))
        )
        if fetch(server.port, "/v1/models").json != self._replies.plain.json:
            self._found.note("The naive service does not say the same as the service.")
        self.targets["200", "naive Flask"] = Target(server, slow=self._catalogue.size >= 10_000)

    def _nginx(self) -> None:
        if not self._wanted("nginx static", "nginx", "nginx cached"):
            return
        if shutil.which("nginx") is None:
            self._found.note("nginx is not installed (apt-get install nginx): no rows of it.")
            return
        static = self._stack.enter_context(nginx_static(self._folder, self._body, self._gzipped))
        self.targets["200", "nginx static"] = Target(static)
        if self._gzipped is not None:
            self.targets["200 gzip", "nginx static"] = Target(static, "/gzip", GZIP)
        if not SITE.exists():
            self._found.note("There is no deploy/nginx/roster.conf: no rows behind nginx.")
            return
        behind = self._stack.enter_context(roster(self._catalogue.instance, unix=True))
        for who in ("nginx", "nginx cached"):
            self._front(who, behind)

    def _front(self, who: str, behind: Server) -> None:
        cached = who == "nginx cached"
        try:
            front = self._stack.enter_context(nginx_front(self._folder, behind, cached=cached))
        except ServerFailed as error:
            self._found.note(f"{who}: {error}.")
            return
        for (case, other), target in list(self.targets.items()):
            if other == "service" and not (cached and "key" in case):
                self.targets[case, who] = replace(target, server=front)

    def _peers(self) -> None:
        for who, serve in PEERS.items():
            if not self._wanted(who):
                continue
            try:
                target = self._stack.enter_context(
                    serve(self._plan.folder, self._folder, self._replies.plain.json["data"])
                )
            except PeerFailed as error:
                self._found.note(f"{who}: {error}")
            else:
                self.targets["200", who] = target
                self._found.note(f"{who} is {' '.join(PACKAGES[who])}, one process.")


class Replies:
    """The replies of the service that the yardsticks copy, and the requests for them."""

    def __init__(self, catalogue: Catalogue, service: Server) -> None:
        self._read = catalogue.read
        self._port = service.port
        self.plain = self._fetch({})
        self.compressed = self._fetch(GZIP)

    def cases(self, *, with_gzip: bool) -> dict[str, tuple[Mapping[str, str], int]]:
        """Return headers and status of each request, by its name."""
        cases: dict[str, tuple[Mapping[str, str], int]] = {}
        encodings = [("", {}), (" gzip", GZIP)] if with_gzip else [("", {})]
        for gzip_name, encoding in encodings:
            for key_name, key in (("", {}), (" key", self._read)):
                headers = {**key, **encoding}
                etag = self._fetch(headers).headers["etag"]
                cases[f"200{key_name}{gzip_name}"] = (headers, 200)
                known = {**headers, "If-None-Match": etag}
                cases[f"304{key_name}{gzip_name}"] = (known, 304)
        return cases

    def _fetch(self, headers: Mapping[str, str]) -> Answer:
        return fetch(self._port, "/v1/models", headers)
