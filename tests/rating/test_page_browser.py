"""The page in headless Chromium. Every test also fails on a script error or an unexpected console message."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
uvicorn = pytest.importorskip("uvicorn", reason="needs the extra rate")
from stg_eval.rating.aspects import NAMES  # noqa: E402
from stg_eval.rating.serve import free_port, invitations  # noqa: E402
from stg_eval.rating.server import application  # noqa: E402
from stg_eval.rating.study import Study  # noqa: E402

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def served(made_study: Callable[..., Any]) -> Iterator[Callable[..., tuple[Study, list[str]]]]:
    """served(**options of begin) -> the study and the invitations' links, with a server that answers them."""
    servers = []

    def make(**options: Any) -> tuple[Study, list[str]]:
        study, store = made_study(**options)
        bound = free_port("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(application(study, store), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return study, [line.split("\t")[1] for line in invitations(study, "127.0.0.1", bound.getsockname()[1])]

    yield make
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    contexts, troubles = [], []

    def go(link: str, *, context: Any = None, **options: Any) -> Any:
        if context is None:
            context = browser.new_context(**({"viewport": {"width": 1000, "height": 900}} | options))
            contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: troubles.append(f"console {m.type}: {m.text}"))
        page.on("pageerror", lambda e: troubles.append(f"error: {e}"))
        page.goto(link)
        return page

    yield go
    for context in contexts:
        context.close()
    # what a test does on purpose: a connection that is cut, an answer that is refused
    expected = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED", "409 (Conflict)", "425 (Too Early)", "401 (Unauthorized)")
    assert [t for t in troubles if not any(word in t for word in expected)] == []


def until(page: Any, condition: str, seconds: float = 20.0) -> None:
    """Wait for a JavaScript condition. Playwright's own way needs eval, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def start(page: Any) -> None:
    page.click("#start")
    page.wait_for_selector("#clips video")


def watched(page: Any) -> None:
    until(page, "!document.querySelector('#questions input').disabled")


def rate(page: Any, value: int = 4) -> str:
    """Watch the clip, answer everything by keyboard, go on; returns the trial."""
    watched(page)
    trial = page.evaluate("trial.id")
    for _ in NAMES:
        page.keyboard.press(str(value))
    page.keyboard.press("Enter")
    until(page, f"!trial || trial.id !== {trial!r}")
    return str(trial)


def test_a_clip_cannot_be_skipped_before_it_ended(served, visit) -> None:
    study, links = served(raters=1)
    page = visit(links[0])
    start(page)
    assert page.is_disabled("#submit")
    page.evaluate("document.querySelector('#questions').requestSubmit()")
    page.evaluate("for (const i of document.querySelectorAll('input')) i.disabled = false")
    for name in NAMES:
        page.evaluate(f"document.querySelector('input[name={name}][value=\"5\"]').click()")
    page.evaluate("document.querySelector('#submit').disabled = false; document.querySelector('#submit').click()")
    assert study.progress(study.raters()[0]) == (0, 8)
    until(page, "played")
    rate(page)
    assert study.progress(study.raters()[0]) == (1, 8)


def test_two_raters_at_once_each_finish_their_own_study(served, visit) -> None:
    study, links = served(clips=4, raters=2, cases_each=2)
    pages = [visit(link) for link in links]
    for page in pages:
        start(page)
    for _ in range(4):
        for value, page in enumerate(pages, 2):
            rate(page, value)
    for page in pages:
        page.wait_for_selector("text=All done")
    answers = study.answers()
    assert len(answers) == 8
    assert {(name, answer["likeness"]) for name, _, _, answer, _ in answers} == {("rater-01", 2), ("rater-02", 3)}


def test_reload_back_button_and_a_second_tab_go_on_where_the_rater_was(served, visit) -> None:
    study, links = served(raters=1)
    page = visit(links[0])
    start(page)
    first = rate(page)
    page.reload()
    page.wait_for_selector("#clips video")
    second = page.evaluate("trial.id")
    assert second != first
    page.goto("about:blank")
    page.go_back()
    page.wait_for_selector("#clips video")
    assert page.evaluate("trial.id") == second
    other = visit(links[0], context=page.context)
    other.wait_for_selector("#clips video")
    rate(other, 2)  # in one tab ...
    rate(page, 5)  # ... and the same clip in the other, too late
    answers = {trial.id: answer["likeness"] for _, trial, _, answer, _ in study.answers()}
    assert answers[second] == 2
    assert len(study.answers()) == 2


def test_a_double_submit_counts_once(served, visit) -> None:
    study, links = served(raters=1)
    page = visit(links[0])
    start(page)
    watched(page)
    for _ in NAMES:
        page.keyboard.press("3")
    page.evaluate("for (let i = 0; i < 3; i++) document.querySelector('#questions').requestSubmit()")
    until(page, "document.querySelector('#count').textContent === '1 of 8'")
    rate(page)
    assert study.progress(study.raters()[0]) == (2, 8)


def test_a_rating_survives_a_lost_connection(served, visit) -> None:
    study, links = served(raters=1)
    page = visit(links[0])
    start(page)
    watched(page)
    for _ in NAMES:
        page.keyboard.press("5")
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=No connection")
    assert study.progress(study.raters()[0])[0] == 0
    page.context.set_offline(False)
    until(page, "document.querySelector('#count').textContent === '1 of 8'")
    assert [answer["likeness"] for _, _, _, answer, _ in study.answers()] == [5]


def test_an_answer_that_got_through_before_the_connection_broke_counts_once(served, visit) -> None:
    study, links = served(raters=1)
    page = visit(links[0])
    start(page)
    watched(page)
    lost = []

    def deliver_then_break(route: Any) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.fetch().status)
            route.abort()

    page.route("**/api/answers", deliver_then_break)
    for _ in NAMES:
        page.keyboard.press("2")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#count').textContent === '1 of 8'")
    assert lost == [200]
    assert len(study.answers()) == 1


def test_pairs_play_in_step_and_take_left_equal_right(served, visit) -> None:
    study, links = served(raters=1, mode="pair")
    page = visit(links[0])
    start(page)
    watched(page)
    times = page.evaluate("[...document.querySelectorAll('#clips video')].map((v) => v.currentTime)")
    assert abs(times[0] - times[1]) < 0.2
    rate(page, 2)
    assert set(study.answers()[0][3].values()) == {"equal"}


def test_a_phone_shows_clip_and_questions_without_sideways_scrolling(served, visit) -> None:
    _, links = served(raters=1)
    page = visit(links[0], viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    start(page)
    watched(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.tap("label:has(input[name=video_quality][value='3'])")
    assert page.evaluate("given().video_quality") == 3


def test_a_link_that_is_cut_says_so(served, visit) -> None:
    _, links = served(raters=1)
    page = visit(links[0][:-3])
    page.wait_for_selector("text=not valid")
    page = visit(links[0].partition("#")[0])
    page.wait_for_selector("text=not whole")
