"""MLflow's own pages in a real browser: a person finds both runs, compares them, sees pictures.

The store is that of a real `dvc repro` and of a second one with a changed param.
"""

import shutil

import clones
import pytest
from clones import Clone
from playwright.sync_api import expect, sync_playwright

from bench import servers
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
# The names of columns that their cells are too narrow for.
CUT_OFF = """() => [...document.querySelectorAll(".ag-header-cell")].filter(cell => {
    const right = element => element.getBoundingClientRect().right;
    const name = cell.querySelector("[data-testid^=sort-header]");
    return name && right(name) > right(cell);
}).map(cell => cell.innerText)"""
# Pixels of the alphabet in 100 px of the font that pages without one of their own are drawn in.
ALPHABET = """() => {
    const context = document.createElement("canvas").getContext("2d");
    context.font = "100px sans-serif";
    return context.measureText("abcdefghijklmnopqrstuvwxyz").width;
}"""
# On a browser's first visit MLflow's assistant opens by itself, over a third of the page. A click
# that closes it is forgotten where the page is closed before the browser has noted it.
VISITED = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
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
    clones.train_on_voc_alone(params)
    params["models"]["v3plus"]["training"]["max_iterations"] = 10


def _slower(params):
    params["models"]["v3plus"]["training"]["base_learning_rate"] = 0.01


@pytest.fixture(scope="module")
def address(clone):
    port = servers.free_port()
    with servers.mlflow_server(clone.folder, port):
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
        opened.add_init_script(VISITED)
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


@pytest.mark.parametrize(
    ("view", "last"), [("rows", "inference.flip"), ("models", "training.seed")]
)
def test_on_a_usual_screen_no_column_is_cut_off_up_to_what_is_often_changed(
    address, page, view, last
):
    page.set_viewport_size({"width": 1600, "height": 900})
    if page.evaluate(ALPHABET) > 1300:  # 1273 in Arial; Segoe UI and Roboto are as narrow
        pytest.skip("no font as narrow as those of usual screens; fonts-liberation has one")
    page.goto(address + views.address("1", view))
    expect(page.get_by_role("columnheader", name=last).first).to_be_in_viewport(timeout=WAIT_MS)
    assert page.evaluate(CUT_OFF) == []


def test_two_ticked_runs_are_compared_param_by_param_and_picture_by_picture(address, page):
    page.goto(address + views.address("1"))
    page.get_by_role("checkbox", name="Select all runs").check()
    page.get_by_role("button", name="Compare").click()
    sees(page, "Comparing 2 Runs from 1 Experiment")
    differing = page.get_by_role("row").filter(has_text="model.training.base_learning_rate")
    expect(differing).to_contain_text("0.05", timeout=WAIT_MS)
    expect(differing).to_contain_text("0.01")
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
