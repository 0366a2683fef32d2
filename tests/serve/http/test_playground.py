"""The playground's files and their headers: what a browser may do with them, and when there are any."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from guard.errors import ConfigError
from guard.serve.config import Given, settings
from guard.serve.http.playground import FOLDER, MEDIA_TYPES
from tests.fixtures.served import Served, serve, started

FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES)
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
PATHS = ["/", *(f"/playground/{path.name}" for path in FILES if path.name != "index.html"), "/playground/server.json"]
MOST_BYTES = 150_000


class Tags(HTMLParser):
    """Tags with their attributes, and the text inside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.inline += data.strip()

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def client(served: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=served.running.rest_url or "", trust_env=False, timeout=20)


@pytest.fixture(scope="module")
def page() -> Tags:
    return Tags((FOLDER / "index.html").read_text(encoding="utf-8"))


async def test_every_file_comes_with_a_strict_policy() -> None:
    async with serve(rest=True, playground=True) as served, client(served) as http:
        for path in PATHS:
            response = await http.get(path)
            assert response.status_code == 200, path
            assert (await http.head(path)).status_code == 200, path
            rules = dict(
                each.strip().partition(" ")[::2] for each in response.headers["content-security-policy"].split(";")
            )
            assert rules["default-src"] == "'none'"
            assert {rules[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
            assert {rules[kind] for kind in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
            assert (rules["require-trusted-types-for"], rules["trusted-types"]) == ("'script'", "'none'")
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["referrer-policy"] == "no-referrer"
        assert (await http.get("/")).headers["content-type"] == "text/html; charset=utf-8"
        assert (await http.get("/playground/main.js")).headers["content-type"] == "text/javascript; charset=utf-8"
        assert (await http.get("/playground/server.json")).json() == {
            "grpc_port": int(served.running.address.rpartition(":")[2])
        }
        assert (await http.post("/", json={})).status_code == 405
        for path in ("/playground", "/playground/", "/playground/__init__.py", "/playground/..%2f__init__.py"):
            assert (await http.get(path)).status_code == 404


def test_it_is_not_served_unless_asked_for(http: httpx.Client) -> None:
    for path in PATHS:
        response = http.get(path)
        assert response.status_code == 404
        assert "playground" not in response.text


async def test_the_page_needs_no_key_and_its_requests_do(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys: []\n")
    async with (
        serve(rest=True, playground=True, api_keys=keys) as served,
        client(served) as http,
    ):
        assert (await http.get("/")).status_code == 200
        for path in ("/v1/check", "/v1/info"):
            refused = await http.post(path, json={})
            assert refused.status_code == 401
            assert "a key is required" in refused.json()["error"]


def test_the_command_says_where_it_is(tmp_path: Path) -> None:
    with started(tmp_path / "stderr", "--rest-port", "0", "--playground") as process:
        assert process.line.endswith(f"; playground at {process.url}/\n")
        assert "<title>guard playground</title>" in httpx.get(process.url, trust_env=False).text


def test_it_needs_the_http_listener() -> None:
    with pytest.raises(ConfigError, match="playground: rest_port is missing"):
        settings(None, [Given("--playground", "playground", True)])


def test_the_page_is_small_and_loads_nothing_from_elsewhere(page: Tags) -> None:
    assert sum(path.stat().st_size for path in FILES) < MOST_BYTES
    names = {path.name for path in FILES}
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            if (link := attributes.get(name)) is not None:
                assert link.removeprefix("playground/") in names, (tag, link)
    for path in FILES:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|\burl\(", text), path.name
    for path in SCRIPTS:
        for imported in re.findall(r"""from "\./([^"]+)";""", path.read_text(encoding="utf-8")):
            assert imported in names, path.name


def test_nothing_is_inline(page: Tags) -> None:
    assert page.inline == ""
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_or_code_of_a_text(path: Path) -> None:
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\b|Function\(|javascript:"
    assert not re.search(sinks, path.read_text(encoding="utf-8"))
    assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie", path.read_text(encoding="utf-8"))


def test_every_field_has_a_label_and_every_reference_a_target(page: Tags) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for name in ("for", "aria-controls", "aria-labelledby", "aria-describedby"):
            if (target := attributes.get(name)) is not None:
                assert target in ids, (tag, name, target)
    used = {
        found
        for path in SCRIPTS
        for found in re.findall(r"""(?:\$|getElementById)\("([^"]+)"\)""", path.read_text(encoding="utf-8"))
    }
    assert used <= set(ids)
