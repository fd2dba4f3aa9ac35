"""The page in a real browser, over real programs: look, search, retry, live update, login, accessibility, small screens."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from support.live.web_stand import WebStand

from inboxd.console.web import passwords

pytestmark = pytest.mark.live

MakeStand = Callable[..., WebStand]
HOSTILE = b"\"><script>document.title='owned'</script>\xff\xe2\x80\xae'.pdf"
LONG = b"n" * 240 + b".pdf"
PATHS = (
    "/",
    "/failed",
    "/retry",
    "/retries",
    "/search?q=a.pdf",
    "/file?inbox=drop&folder=failed&path=a.pdf",
    "/timeline?q=a.pdf",
    "/nothing",
)
WAIT_MS = 30_000


def violations(page: Page) -> list[str]:
    """Return what axe complains of."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found]


def test_files_are_seen_searched_and_retried_and_the_page_follows_by_itself(web_stand: MakeStand, page: Page) -> None:
    stand = web_stand().start()
    page.goto(stand.address)
    expect(page.get_by_role("article", name="drop")).to_be_visible(timeout=WAIT_MS)

    stand.fail(b"a.pdf", "no total")
    stand.fail(b"sub/b.pdf", "no total")
    stand.fail(HOSTILE, "<img src=x onerror=document.title='owned'>")
    expect(page.get_by_role("link", name="3 failed files of drop")).to_be_visible(timeout=WAIT_MS)  # live, without a reload
    expect(page.get_by_role("img", name=re.compile("3 failed")).first).to_be_visible(timeout=WAIT_MS)

    page.get_by_role("link", name="3 failed files of drop").click()
    expect(page.get_by_role("row")).to_have_count(4)
    assert "owned" not in page.title()
    assert page.locator("main img, main script").count() == 0

    page.get_by_role("link", name="a.pdf", exact=True).click()
    expect(page.get_by_text("reason: no total")).to_be_visible()
    expect(page.locator(".timeline").first).to_contain_text("claimed")
    expect(page.locator(".timeline").first).to_contain_text("no total")

    page.get_by_role("searchbox", name="Name or path of a file").first.fill("b.pdf")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="sub/b.pdf").first).to_be_visible()

    stand.repair(HOSTILE)
    page.goto(f"{stand.address}/failed?name=owned")
    page.get_by_role("button", name=re.compile("^Retry .*owned")).click()
    expect(page.get_by_role("status").first).to_contain_text("was moved back to inbox/")
    stand.stand.wait_until(lambda: HOSTILE in stand.stand.names("done"), awaited="the hostile file in done/")

    for name in (b"a.pdf", b"sub/b.pdf"):
        stand.repair(name)
    page.goto(f"{stand.address}/failed?reason=no+total")
    page.get_by_role("link", name="Retry all that match").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Retry 2 failed files?")
    page.get_by_role("button", name="Retry 2 files").click()
    expect(page.locator("#done")).to_contain_text("2 of 2 files were moved back", timeout=WAIT_MS)
    stand.stand.wait_until(lambda: {b"a.pdf", b"sub/b.pdf"} <= stand.stand.names("done"), awaited="both files in done/")
    page.goto(f"{stand.address}/failed")
    expect(page.locator("#total")).to_have_text("0 failed files", timeout=WAIT_MS)


def test_a_form_with_a_wrong_token_moves_nothing(web_stand: MakeStand, page: Page) -> None:
    stand = web_stand().start()
    stand.fail(b"a.pdf", "no total")
    page.goto(f"{stand.address}/failed")
    expect(page.get_by_role("row")).to_have_count(2, timeout=WAIT_MS)

    page.evaluate("document.querySelectorAll('[name=token]').forEach(input => { input.value = '0'.repeat(64) })")
    page.get_by_role("button", name="Retry a.pdf").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("This did not work")
    assert stand.stand.names("inbox") == set()
    assert b"a.pdf" in stand.stand.names("failed")


def test_the_page_works_without_javascript(web_stand: MakeStand, browser: Browser) -> None:
    stand = web_stand().start()
    stand.fail(b"a.pdf", "no total")
    stand.repair(b"a.pdf")
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{stand.address}/failed")
        stand.stand.wait_until(lambda: page.reload() and page.get_by_role("row").count() == 2, awaited="the file in the list")

        page.get_by_role("link", name="Retry all").click()
        page.get_by_role("button", name="Retry 1 file").click()

        expect(page.locator("#done")).to_contain_text("1 of 1", timeout=WAIT_MS)  # by the page's own refresh
    stand.stand.wait_until(lambda: b"a.pdf" in stand.stand.names("done"), awaited="the file in done/")


def test_the_password_opens_the_page_and_log_out_closes_it(web_stand: MakeStand, page: Page) -> None:
    stand = web_stand(password_file="web-password")
    passwords.write_hash(
        stand.stand.folder / "web-password", passwords.hash_password("correct horse"), stand.stand.settings_file
    )
    stand.start()
    page.goto(f"{stand.address}/failed")

    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    assert violations(page) == []
    page.get_by_label("Password").fill("wrong horse")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("The password is wrong.")
    page.get_by_label("Password").fill("correct horse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Failed files")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_axe_has_no_complaint_and_no_page_scrolls_sideways_in_light_and_dark_on_a_telephone_and_a_desk(
    web_stand: MakeStand, page: Page
) -> None:
    stand = web_stand().start()
    stand.fail(b"a.pdf", "no total")
    stand.fail(LONG, "x" * 300)
    page.goto(f"{stand.address}/failed")
    expect(page.get_by_role("row")).to_have_count(3, timeout=WAIT_MS)
    complaints, backgrounds = [], set()

    for scheme in ("light", "dark"):
        for width in (360, 1280):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 800})
            for path in PATHS:
                page.goto(stand.address + path)
                complaints += [f"{scheme} {width} {path} {violation}" for violation in violations(page)]
                if page.evaluate("document.documentElement.scrollWidth") > width:
                    complaints.append(f"{scheme} {width} {path} is wider than the window")
                backgrounds.add((scheme, page.evaluate("getComputedStyle(document.body).backgroundColor")))

    assert complaints == []
    assert len(backgrounds) == 2


def test_the_first_key_leads_to_the_content_and_focus_is_visible(web_stand: MakeStand, page: Page) -> None:
    stand = web_stand().start()
    page.goto(stand.address)

    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_text("Skip to the content")
    assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    page.keyboard.press("Enter")

    expect(page.locator("main")).to_be_focused()
