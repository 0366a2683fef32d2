"""The playground in a real Chromium: verdicts, hostile texts, a server that stops, hangs, refuses, or is full."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guard import document
from guard.serve.core.keys import new_key
from tests.fixtures.served import Process, started

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = os.environ.get("AXE_CORE")  # axe.min.js of the npm package axe-core
WAIT_MS = 120_000  # a machine may be busy; what is measured here is no time
HOSTILE = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"""
OUTCOME = ".panel .outcome"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (Debian: apt-get install chromium)"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    with started(tmp_path / "stderr", "--rest-port", "0", "--playground", "--max-characters", "5000") as process:
        yield process


@asynccontextmanager
async def opened(url: str, **context: Any) -> AsyncIterator[Any]:
    """A page at the URL; whatever its scripts or its security policy complain about fails the test."""
    from playwright.async_api import async_playwright

    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=WAIT_MS)
        page = await (await browser.new_context(**context)).new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
        await page.goto(url)
        yield page
        await browser.close()
    assert complaints == []


async def judged(page: Any, outcome: str, panel: str = "Policy A") -> None:
    """Returns when the panel says so."""
    shown = page.locator(f"[aria-label='{panel}'] .outcome")
    await shown.filter(has_text=re.compile(f"^{outcome}$")).wait_for()


async def write(page: Any, text: str) -> None:
    await page.locator("#turns textarea").last.fill(text)


async def test_verdicts_follow_the_conversation(server: Process) -> None:
    async with opened(server.url) as page:
        await judged(page, "SAFE")
        await write(page, "violates:S3")
        await judged(page, "UNSAFE")
        flagged = page.locator(".bars tr.flagged", has_text="S3")
        assert await flagged.locator(".tag").inner_text() == "flagged"
        assert await page.locator(".bars .threshold").count() == 15  # 14 categories, and the whole
        assert "ms round trip" in await page.locator(".facts").inner_text()
        await page.locator("#announcer", has_text="Policy A: UNSAFE").wait_for(state="attached")
        # Of the second turn only that one is judged; without it the first one is again.
        await page.get_by_role("button", name="Add a turn").click()
        assert (
            await page.evaluate("document.activeElement.getAttribute('aria-label')")
            == "Text of turn 2, which is judged"
        )
        await page.get_by_text("Write something").wait_for()
        await page.keyboard.type("Hello")
        await judged(page, "SAFE")
        assert (await page.locator(".target").inner_text()).startswith("response: ")
        await page.get_by_role("button", name="Remove turn 2").click()
        await judged(page, "UNSAFE")
        await page.reload()
        await judged(page, "SAFE")
        assert await page.locator("#turns textarea").input_value() == "How do I bake bread?"


async def test_a_hostile_text_stays_a_text(server: Process) -> None:
    policy = f"id: own\nversion: '1'\nname: Own\ncategories:\n- {{code: X1, name: '{HOSTILE[:28]}', definition: A.}}\n"
    async with opened(server.url) as page:
        await judged(page, "SAFE")
        await page.get_by_role("button", name="Edit as YAML: policy A").click()
        await page.locator("#panels .yaml").fill(policy)
        await write(page, f"{HOSTILE} {'long ' * 400} violates:X1")
        await judged(page, "UNSAFE")
        assert await page.locator(".bars tr.flagged th").last.inner_text() == f"X1{HOSTILE[:28]}flagged"
        assert HOSTILE[:10] in await page.locator("#call").inner_text()
        await page.get_by_role("tab", name="Rows").click()
        await page.locator("#lines").fill(HOSTILE)
        await page.get_by_role("button", name="Judge", exact=True).click()
        assert await page.locator("#rows-table td").nth(1).inner_text() == HOSTILE
        assert await page.locator("img[src=x]").count() == 0
        assert await page.title() == "guard playground"


async def test_the_worst_window_is_marked_by_characters(server: Process) -> None:
    async with opened(server.url) as page:
        text = "\N{GRINNING FACE} fine. " * 200 + "violates:S9 " + "\N{GRINNING FACE} fine. " * 200
        await write(page, text)
        await judged(page, "UNSAFE")
        marked = await page.locator("mark").inner_text()
        assert "violates:S9" in marked
        assert len(marked) < len(text)
        where = await page.locator(".where").inner_text()
        start, end, total = (int(each.replace(",", "")) for each in re.findall(r"[\d,]+", where))
        assert (text[start:end], len(text)) == (marked, total)


async def test_two_policies_side_by_side(server: Process) -> None:
    async with opened(server.url) as page:
        await write(page, "violates:S14")
        await judged(page, "UNSAFE")
        await page.get_by_role("button", name="Compare").click()
        await judged(page, "UNSAFE", "Policy B")
        await page.get_by_role("combobox", name="Policy B", exact=True).select_option("minimal")
        await judged(page, "SAFE", "Policy B")
        await judged(page, "UNSAFE", "Policy A")
        await page.get_by_role("button", name="Compare").click()
        assert await page.locator(".panel").count() == 1


async def test_a_pasted_conversation(server: Process) -> None:
    async with opened(server.url) as page:
        await page.get_by_role("button", name="Paste …").click()
        use = page.get_by_role("button", name="Replace the conversation")
        await page.locator("#import-text").fill('[{"role": "robot", "content": "a"}]')
        await use.click()
        await page.get_by_text("messages[0].role must be one of").wait_for()
        await page.locator("#import-text").fill("User: Hi\nAssistant: Hello,\nviolates:S2")
        await use.click()
        await judged(page, "UNSAFE")
        texts = page.locator("#turns textarea")
        assert [await texts.nth(each).input_value() for each in (0, 1)] == ["Hi", "Hello,\nviolates:S2"]


async def test_rows_as_a_table_and_as_csv(server: Process) -> None:
    reply = json.dumps({"prompt": "Hi", "response": 'violates:S1 "really", so'})
    lines = ["hello", reply, "=1+1", "", "violates:S2", "x" * 6000]
    async with opened(server.url) as page:
        await page.get_by_role("tab", name="Conversation").press("ArrowRight")
        await page.locator("#lines").fill("\n".join(lines))
        await page.get_by_role("button", name="Judge", exact=True).click()
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Download CSV").click()
        table = await page.locator("#rows-table tbody tr").all_inner_texts()
        file = await (await downloading.value).path()
        found = list(csv.DictReader(io.StringIO(Path(file).read_text(encoding="utf-8"))))
    assert len(table) == len(found) == 5
    assert [row["line"] for row in found] == ["1", "2", "3", "5", "6"]
    assert [row["outcome"] for row in found] == ["SAFE", "UNSAFE", "SAFE", "UNSAFE", "ERROR"]
    assert [row["text"] for row in found][1:3] == ['violates:S1 "really", so', "'=1+1"]
    assert (found[1]["flagged"], found[1]["target"], found[4]["error"][:40]) == (
        "S1",
        "response",
        "the conversation has 6000 characters, mu",
    )
    assert float(found[3]["S2"]) > float(found[3]["S1"])


async def test_the_shown_calls_work(server: Process) -> None:
    async with opened(server.url) as page:
        await write(page, 'It\'s "quoted" $HOME \\ violates:S4 \N{GRINNING FACE}')
        await judged(page, "UNSAFE")
        await page.get_by_label("Mode under policy A").select_option("strict")
        await page.locator("#call", has_text='"mode"').wait_for()
        curl = await page.locator("#call").inner_text()
        await page.get_by_label("Python").check()
        python = await page.locator("#call").inner_text()
        await page.get_by_label("gRPC").check()
        grpc = await page.locator("#call").inner_text()
    if shutil.which("curl"):
        done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60)
        assert '"flagged":["S4"]' in done.stdout, done.stderr
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("UNSAFE"), done.stderr
    assert f"{server.address} guard.v1.ModerationService/Moderate" in grpc
    assert '"mode": "MODE_STRICT"' in grpc


async def test_what_the_server_refuses(server: Process) -> None:
    async with opened(server.url) as page:
        await judged(page, "SAFE")
        await write(page, "a" * 1_000_000)
        await page.get_by_text("The conversation has 1,000,000 characters, and the server takes 5,000").wait_for()
        await page.get_by_text("Not sent: it is too long.").wait_for()
        await write(page, "\0\x01\x02\ufffd\ud800 PNG")
        await page.get_by_text("this seems to be binary data").wait_for()
        await judged(page, "SAFE")
        await page.get_by_role("button", name="Edit as YAML: policy A").click()
        await page.locator("#panels .yaml").fill("id: x")
        await page.locator(".panel .problem", has_text="required key `version` is missing").wait_for()
        await page.evaluate(
            """() => {
                const policy = document.querySelector(".policy .name");
                policy.append(new Option("gone", "gone"));
                policy.value = "gone";
                policy.dispatchEvent(new Event("change"));
            }"""
        )
        await page.locator(".panel .problem", has_text="unknown policy 'gone'; known: ").wait_for()


async def test_a_server_that_stops_and_comes_back(server: Process, tmp_path: Path) -> None:
    async with opened(server.url) as page:
        await judged(page, "SAFE")
        server.popen.kill()
        server.popen.wait()
        await write(page, "violates:S1")
        await page.locator(".panel .problem", has_text="does not answer").wait_for()
        assert await page.get_by_role("button", name="Try again").is_visible()
        assert not await page.locator(OUTCOME).is_visible()
        port = server.url.rpartition(":")[2]
        with started(tmp_path / "again", "--rest-port", port, "--playground"):
            await judged(page, "UNSAFE")  # by itself
            await page.reload()
            await judged(page, "SAFE")


async def test_a_server_that_hangs_is_given_up(server: Process) -> None:
    async with opened(server.url) as page:
        await judged(page, "SAFE")
        await page.clock.install()
        await page.route("**/v1/check", lambda _: None)  # never answered
        await write(page, "violates:S1")
        await page.clock.run_for(100)
        await page.locator(".panel[aria-busy]").wait_for()
        await page.clock.run_for(15_000)
        await page.locator(".panel .problem", has_text="No answer within 15 seconds").wait_for()
        await page.unroute("**/v1/check")
        await page.get_by_role("button", name="Try again").click()
        await judged(page, "UNSAFE")


async def test_a_key_where_the_server_wants_one(tmp_path: Path) -> None:
    clear, key = new_key("page", ("moderate",))
    keys = tmp_path / "keys.yaml"
    keys.write_text(document.dump({"keys": [{"name": key.name, "sha256": key.sha256}]}))
    options = ("--rest-port", "0", "--playground", "--api-keys", str(keys))
    with started(tmp_path / "stderr", *options) as process:
        async with opened(process.url) as page:
            await page.locator(".panel .problem", has_text="a key is required").wait_for()
            await page.get_by_label("API key").fill(clear)
            await page.keyboard.press("Enter")
            await judged(page, "SAFE")
            call = await page.locator("#call").inner_text()
            assert "$GUARD_API_KEY" in call
            assert clear not in call
            await page.reload()
            await page.locator(".panel .problem", has_text="a key is required").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_shows_all_of_it(server: Process, scheme: str) -> None:
    async with opened(server.url, viewport={"width": 360, "height": 740}, color_scheme=scheme) as page:
        await judged(page, "SAFE")
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        await page.get_by_role("tab", name="Rows").click()
        assert await page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.skipif(AXE is None, reason="AXE_CORE does not name axe.min.js of the npm package axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_has_nothing_serious_to_say(server: Process, scheme: str) -> None:
    async with opened(server.url, bypass_csp=True, color_scheme=scheme) as page:
        await write(page, f"{'fine ' * 400} violates:S3")
        await judged(page, "UNSAFE")
        await page.get_by_role("button", name="Compare").click()
        await judged(page, "UNSAFE", "Policy B")
        await page.get_by_role("button", name="Paste …").click()
        await page.add_script_tag(path=AXE)
        for tab in ("Conversation", "Rows"):
            await page.get_by_role("tab", name=tab).click()
            if tab == "Rows":
                await page.locator("#lines").fill("hello\nviolates:S3\n" + "x" * 6000)
                await page.get_by_role("button", name="Judge", exact=True).click()
                await page.locator("#rows-table tbody tr").nth(2).wait_for()
            violations = (await page.evaluate("axe.run()"))["violations"]
            assert [(each["impact"], each["id"], len(each["nodes"])) for each in violations] == []
