"""MLflow's own pages in a real browser: a person finds both runs, compares them, sees pictures.

The store is that of a real `dvc repro` and of a second one with a changed param.
"""

import shutil

import pytest
import stores
from clones import Clone
from playwright.sync_api import expect, sync_playwright

from pipeline.tracking import views

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATH = next(filter(None, map(shutil.which, BROWSERS)), None)
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 60_000  # a busy machine; whatever is there is found at once

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(PATH is None, reason=f"no browser: none of {', '.join(BROWSERS)} in PATH"),
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Two states of one row, each with its training."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    clone.change_params(_one_row)
    clone.repro()
    clone.change_params(_slower)
    clone.repro()
    return clone


def _one_row(params):
    for section, key in (("models", "v3"), ("rows", "v3_os16")):
        del params[section][key]
    params["models"]["v3plus"]["training"]["max_iterations"] = 10


def _slower(params):
    params["models"]["v3plus"]["training"]["base_learning_rate"] = 0.01


@pytest.fixture(scope="module")
def address(clone):
    port = stores.free_port()
    with stores.mlflow_server(clone.folder, port):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("browser"),
            executable_path=PATH,
            args=SWITCHES,
            viewport={"width": 1800, "height": 1000},
        )
        opened.set_default_timeout(WAIT_MS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    opened = browser.new_page()
    yield opened
    opened.close()


def rows(clone):
    """The runs of the row, the better first."""
    _, runs = clone.mlflow_runs()
    found = [run for run in runs if run.data.tags["kind"] == "row"]
    return sorted(found, key=lambda run: -run.data.metrics["score/miou"])


def sees_pictures(page, number):
    """Waits until as many pictures of panels are drawn, not merely named."""
    is_drawn = """number => {
        const drawn = [...document.images].filter(i => i.complete && i.naturalWidth > 300);
        return drawn.length >= number;
    }"""
    page.wait_for_function(is_drawn, arg=number, timeout=WAIT_MS)


def close_assistant(page):
    """MLflow's Assistant opens by itself, and leaves too little of the page to click on."""
    page.get_by_role("button", name="Close").first.click()


def sees(page, text):
    expect(page.get_by_text(text).first).to_be_visible(timeout=WAIT_MS)


def test_the_table_shows_both_states_with_their_scores(clone, address, page):
    page.goto(address + views.address("1"))
    for run in rows(clone):
        sees(page, f"{run.data.metrics['score/miou']:.4f}"[:5])
        expect(page.locator(f"a[href*='{run.info.run_id}']").first).to_be_visible()
    sees(page, "score/paper_miou")
    sees(page, "2 matching runs")


def test_the_models_best_miou_is_in_their_view(clone, address, page):
    _, runs = clone.mlflow_runs()
    page.goto(address + views.address("1", "models"))
    for run in (run for run in runs if run.data.tags["kind"] == "model"):
        sees(page, f"{run.data.metrics['best/miou']:.4f}"[:5])


def test_two_runs_are_compared_param_by_param_and_picture_by_picture(clone, address, page):
    ids = ",".join(f'"{run.info.run_id}"' for run in rows(clone))
    page.goto(f'{address}#/compare-runs?runs=[{ids}]&experiments=["1"]')
    sees(page, "model.training.base_learning_rate")
    sees(page, "0.05")
    sees(page, "0.01")
    close_assistant(page)
    page.get_by_text("panels.png").first.click()
    sees_pictures(page, 2)


def test_a_run_shows_its_description_and_its_label_maps(clone, address, page):
    run = rows(clone)[0]
    page.goto(address + views.run_address("1", run.info.run_id))
    sees(page, f"make checkout RUN={run.info.run_id}")
    sees(page, "not comparable: 32 images, not VOC 2012 val")
    page.goto(f"{address}#/experiments/1/runs/{run.info.run_id}/artifacts")
    page.get_by_text("panels.png").first.click()
    sees_pictures(page, 1)


def test_a_row_leads_to_the_training_of_its_checkpoint(clone, address, page):
    page.goto(address + views.run_address("1", rows(clone)[0].info.run_id))
    with page.context.expect_page() as opened:  # MLflow opens a description's links in a new tab
        page.get_by_role("link", name="train@v3plus").first.click()
    sees(opened.value, "Trained on")
