"""The page of tools/app.py, in a real browser and without one."""

import base64
import importlib.util
import io
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

from denseclip_mm.apis import Detection, Prediction
from denseclip_mm.apis.checks.config import build_model, load_config
from denseclip_mm.apis.inference import Predictor
from denseclip_mm.apis.regions import assign_regions
from denseclip_mm.demo.render import CLASSES
from denseclip_mm.demo.scenes import draw
from denseclip_mm.demo.things import draw_things

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.apis import init_model
from PIL import Image

gradio_client = pytest.importorskip(
    'gradio_client', reason="the page needs Gradio: pip install 'denseclip_mm[app]'")

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / 'tools/app.py'
ZERO_SHOT = ROOT / 'configs/demo/zero_shot_scenes.py'
DENSECLIP = ROOT / 'configs/demo/denseclip_fpn_scenes.py'
SCENE = 55  # water and a wooden floor, a red, a green and an orange circle, a purple star
NAMES = ['grass', 'water', 'wooden floor;parquet', 'red circle', 'green circle', 'orange circle',
         'purple star']
FLAGS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync']


def save_untrained(config: Path, path: Path) -> Path:
    """A checkpoint of random weights."""
    torch.manual_seed(0)
    torch.save(dict(state_dict=init_model(str(config), device='cpu').state_dict()), path)
    return path


@pytest.fixture(scope='module')
def scene() -> np.ndarray:
    """A picture (512, 512, 3), RGB."""
    return draw(1, SCENE, 512)[0][..., ::-1]


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    """Address and log of the app, started as a user would."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp('app') / 'log.txt'
    with log.open('w') as stream:
        process = subprocess.Popen(
            [sys.executable, str(APP), '--port', str(port)], stdout=stream, stderr=stream,
            cwd=log.parent, env={**os.environ, 'HF_HUB_OFFLINE': '1',
                                 'TMPDIR': str(log.parent)})
    deadline = time.monotonic() + 300
    while 'the page is at' not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    yield f'http://127.0.0.1:{port}', log
    process.terminate()
    process.wait(30)


@pytest.fixture(scope='module')
def browser():
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright drives the browser')
    chromium = shutil.which('chromium')
    if chromium is None:
        pytest.skip('chromium is not on the PATH (on Debian: apt-get install chromium)')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """A window on the page that remembers what it asked for and what went wrong."""

    def __init__(self, browser, address, width=1280, height=900):
        self.page = browser.new_context(viewport=dict(width=width, height=height)).new_page()
        self.page.set_default_timeout(60_000)
        self.requests, self.faults = [], []
        self.page.on('request', lambda request: self.requests.append(request.url))
        self.page.on('pageerror', lambda error: self.faults.append(str(error)))
        self.page.on('console', lambda message: message.type == 'error'
                     and self.faults.append(message.text))
        self.page.goto(address)

    def upload(self, path):
        """Give a picture in place of the one that is there."""
        if self.page.get_by_label('Remove Image').is_visible():
            self.page.get_by_label('Remove Image').click()
        self.page.locator('input[type=file]').first.set_input_files(path)
        self.page.locator(f'img[src$="{Path(path).name}"]').wait_for(state='attached')

    def segment(self, names):
        """Type names and press the button."""
        self.page.get_by_label('Class names').fill(names)
        self.page.get_by_role('button', name='Segment').click()

    def fault(self):
        """The message, if there is one."""
        return self.page.locator('#fault [role=alert]')

    def picture(self, locator) -> np.ndarray:
        """(H, W, 3), RGB, as the server sent it."""
        sent = self.page.request.get(locator.get_attribute('src')).body()
        return cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    def overlay(self, opacity: str) -> np.ndarray:
        """The segmentation after the opacity was changed."""
        image = self.page.locator('#overlay img')
        before = image.get_attribute('src')
        field = self.page.get_by_label('number input for Opacity')
        field.fill(opacity)
        field.blur()
        self.page.wait_for_function(
            'before => document.querySelector("#overlay img").src !== before', arg=before)
        return self.picture(image)

    def check(self):
        """Nothing leaves the machine, nothing complains, nothing scrolls sideways."""
        assert not self.faults
        assert self.requests
        for url in self.requests:
            assert url.startswith(('http://127.0.0.1:', 'data:', 'blob:http://127.0.0.1:')), url
        width = self.page.evaluate('innerWidth')
        assert self.page.evaluate('document.documentElement.scrollWidth') <= width
        inside = ('edge => [...document.querySelectorAll("button, textarea, img, li")].every('
                  'element => element.getBoundingClientRect().right <= edge)')
        assert self.page.evaluate(inside, width)


def test_the_api_as_its_page_has_it(server, scene, tmp_path, monkeypatch):
    """docs/own_photos.md word for word, at this server."""
    page = (ROOT / 'docs/own_photos.md').read_text()
    block = re.search(r'```python\n(from gradio_client.*?)```', page, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photos').mkdir()
    cv2.imwrite('photos/street.jpg', scene[..., ::-1])
    told = {}
    exec(block.replace('http://127.0.0.1:7860', server[0]), told)
    assert told['fault'] == '' and 'of 2 names occur' in told['legend']
    with Image.open(told['overlay']) as overlay:
        assert overlay.size == (512, 512)


@pytest.mark.parametrize('width', [1280, 375])
def test_the_page_shows_what_the_model_says(browser, server, scene, tmp_path, width):
    cv2.imwrite(str(tmp_path / 'scene.png'), scene[..., ::-1])
    expected = Predictor(ZERO_SHOT, device='cpu', class_names=NAMES)(scene)
    truth = np.array([*CLASSES])[draw(1, SCENE, 512)[1]]
    named = np.array([name.split(';')[0] for name in NAMES])[expected.labels]
    assert (named == truth)[np.isin(truth, NAMES)].mean() > 0.85

    visitor = Visitor(browser, server[0], width)
    visitor.upload(tmp_path / 'scene.png')
    visitor.segment(', '.join(NAMES))
    legend = visitor.page.locator('#legend')
    legend.locator('li').first.wait_for()
    pixels = np.bincount(expected.labels.ravel(), minlength=len(NAMES))
    order = [index for index in np.argsort(-pixels, kind='stable') if pixels[index]]
    assert {'water', 'red circle', 'green circle', 'orange circle', 'purple star'} <= {
        NAMES[index] for index in order}
    assert f'The score map labelled the pixels: {len(order)} of 7 names occur' in (
        legend.inner_text())
    for index, entry in zip(order, legend.locator('li').all(), strict=True):
        percent = 100 * pixels[index] / expected.labels.size
        share = f'{percent:.1f}%' if percent >= 0.1 else '< 0.1%'
        assert ' '.join(entry.inner_text().split()) == f'{NAMES[index]} {share}'
        colour = entry.locator('i').evaluate('entry => getComputedStyle(entry).backgroundColor')
        assert colour == f'rgb{tuple(expected.palette[index])}'

    painted = np.array(expected.palette, np.uint8)[expected.labels]
    np.testing.assert_array_equal(visitor.overlay('1'), painted)
    np.testing.assert_array_equal(visitor.overlay('0'), scene)

    maps = visitor.page.locator('#maps .thumbnail-lg')
    maps.nth(len(NAMES) - 1).wait_for()
    assert maps.locator('.caption-label').all_inner_texts()[:len(order)] == [
        NAMES[index] for index in order]
    low, high = expected.score_map.min(), expected.score_map.max()
    assert visitor.page.locator('#scale').inner_text().split() == [
        'cosine', f'{low:.2f}', f'{high:.2f}']
    for index, drawn in zip(order, maps.locator('img').all(), strict=False):
        shown = visitor.picture(drawn)
        cells = cv2.resize(expected.score_map[index], shown.shape[1::-1],
                           interpolation=cv2.INTER_AREA)
        cells = (cells - low) / (high - low)
        colours = 255 * matplotlib.colormaps['magma'](cells)[..., :3]
        np.testing.assert_allclose(shown, colours, atol=4)
    visitor.check()


def of_link(link) -> np.ndarray:
    """The picture that a link in the page downloads, as its file holds it."""
    data = base64.b64decode(link.get_attribute('href').removeprefix('data:image/png;base64,'))
    return np.asarray(Image.open(io.BytesIO(data)))


def test_one_name_alone_a_click_downloads_and_an_error(browser, server, scene, tmp_path):
    """What is other follows the slider; an error takes the result away."""
    cv2.imwrite(str(tmp_path / 'scene.png'), scene[..., ::-1])
    expected = Predictor(ZERO_SHOT, device='cpu', class_names=['water'], other=0.55)(scene)
    visitor = Visitor(browser, server[0])
    page, legend = visitor.page, visitor.page.locator('#legend')
    assert 'has seen procedural scenes only' in page.locator('#known').inner_text()
    other = page.get_by_label('number input for Other')

    def slide(value):
        other.fill(value)
        other.blur()
    slide('0.5')
    visitor.upload(tmp_path / 'scene.png')
    visitor.segment('water')
    legend.locator('li').nth(1).wait_for()
    slide('0.55')
    share = f'{expected.shares()[1]:.1%}'
    legend.get_by_text(share).wait_for()
    assert 'labelled the pixels: 1 of 1 names occur' in legend.inner_text()
    colours = legend.locator('i').evaluate_all('all => all.map(each => each.style.background)')
    assert 'rgb(128, 128, 128)' in colours
    np.testing.assert_array_equal(of_link(legend.locator('a.download:not(.mask)')), expected.labels)
    mask = of_link(legend.get_by_label('mask of water'))
    np.testing.assert_array_equal(mask, np.where(expected.labels == 0, 255, 0))

    picture = page.locator('#overlay img')
    picture.scroll_into_view_if_needed()
    shown = picture.bounding_box()
    side = min(shown['width'], shown['height'])
    page.mouse.click(shown['x'] + shown['width'] / 2, shown['y'] + shown['height'] / 2 + side / 4)
    said = page.locator('#pixel')
    said.locator('li').wait_for()
    x, y, cosine = re.match(r'At (\d+), (\d+): water, cosine (0\.\d\d)', said.inner_text()).groups()
    assert abs(int(x) - 256) < 3 and abs(int(y) - 384) < 3
    assert cosine == f'{expected.scores[int(y), int(x)]:.2f}'

    slide('0')
    legend.get_by_text('100.0%').wait_for()
    visitor.segment('water')
    visitor.fault().get_by_text('separate names by commas').wait_for()
    assert not legend.inner_text() and not said.inner_text() and not picture.count()
    assert not page.locator('#maps .thumbnail-lg').count()
    visitor.check()


def test_faults_are_told_and_the_page_goes_on(browser, server, scene, tmp_path):
    cv2.imwrite(str(tmp_path / 'scene.png'), scene[..., ::-1])
    (tmp_path / 'broken.png').write_bytes((tmp_path / 'scene.png').read_bytes()[:40])
    (tmp_path / 'names.txt').write_text('secret\nstuff\n')
    visitor = Visitor(browser, server[0], 375, 812)
    visitor.segment('water, grass')
    visitor.fault().get_by_text('there is no picture yet').wait_for()
    visitor.upload(tmp_path / 'broken.png')
    visitor.segment('water, grass')
    visitor.fault().get_by_text('broken.png is no picture that this page can read').wait_for()
    assert '/' not in visitor.fault().inner_text()  # no path of the server
    visitor.upload(tmp_path / 'scene.png')
    for names, message in [  # each other than the one before, which else ends the wait at once
            (str(tmp_path / 'names.txt'), 'got 1;'),  # a name, no file of the server
            ('water;, grass', "name 0 ('water;') is empty or has an empty synonym"),
            ('water, grass, Water', "'Water' stands twice, as class 0 and as class 2"),
            ('<b>x</b>, <b>x</b>', "'<b>x</b>' stands twice"),
            ('water', 'type 2 to 256 names, synonyms included, and separate names by commas; got '
             '1; for one alone set Other above 0'),
            (', '.join(map(str, range(300))), 'got 300'),
            ('grass, ' + 'water ' * 100, 'tokens')]:
        visitor.segment(names)
        visitor.fault().get_by_text(message).wait_for()
        assert not visitor.page.locator('#legend li').count()
    visitor.segment('water\ngrass')
    visitor.page.locator('#legend li').first.wait_for()
    assert not visitor.fault().count()
    visitor.check()
    assert 'Traceback' not in server[1].read_text()


def test_an_example_is_segmented_into_the_models_own_names(browser, server):
    visitor = Visitor(browser, server[0])
    own = Predictor(ZERO_SHOT, device='cpu').class_names
    assert visitor.page.get_by_label('Class names').input_value() == ', '.join(own)
    visitor.page.locator('.tr-body').first.click()
    visitor.page.locator('button[aria-label="Remove Image"]').wait_for()
    visitor.page.wait_for_function('own => document.querySelector("textarea").value !== own',
                                   arg=', '.join(own))
    truth = {CLASSES[label] for label in np.unique(draw(1, SCENE, 512)[1])}
    assert set(visitor.page.get_by_label('Class names').input_value().split(', ')) == truth
    visitor.segment(', '.join(own))
    visitor.page.locator('#legend li').first.wait_for()
    assert 'of 30 names occur' in visitor.page.locator('#legend').inner_text()
    maps = visitor.page.locator('#maps .thumbnail-lg')
    maps.nth(29).wait_for()
    assert sorted(maps.locator('.caption-label').all_inner_texts()) == sorted(own)
    visitor.check()


def test_boxes_are_clicked_and_named(browser, server, tmp_path):
    image, masks, shapes = draw_things(5, 0)
    cv2.imwrite(str(tmp_path / 'things.png'), image[..., ::-1])
    visitor = Visitor(browser, server[0])
    page = visitor.page
    page.get_by_role('tab', name='Regions').click()
    panel = page.get_by_role('tabpanel').filter(has=page.get_by_role('textbox', name='Boxes'))
    panel.locator('input[type=file]').first.set_input_files(tmp_path / 'things.png')
    picture = panel.locator('img[src$="things.png"]')
    picture.wait_for()
    picture.scroll_into_view_if_needed()
    shown = picture.bounding_box()
    left, top = (shown[side] + (shown[length] - 128) / 2  # it is not drawn larger than it is
                 for side, length in (('x', 'width'), ('y', 'height')))
    for count, (y, x) in enumerate(map(np.nonzero, masks[:2]), start=1):
        for corner in ((x.max(), y.min()), (x.min(), y.max())):
            before = page.get_by_role('textbox', name='Boxes').input_value()
            page.mouse.click(left + corner[0] + 0.5, top + corner[1] + 0.5)
            page.wait_for_function(
                'before => ![...document.querySelectorAll("textarea")].some('
                'area => area.value === before)', arg=before)
        lines = page.get_by_role('textbox', name='Boxes').input_value().splitlines()
        assert len(lines) == count
        expected = [x.min(), y.min(), x.max(), y.max()]
        np.testing.assert_allclose([int(each) for each in lines[-1].split(',')], expected, atol=1)
    page.get_by_label('Names to choose from').fill(', '.join(shapes))
    page.get_by_role('button', name='Name the regions').click()
    named = panel.locator('#region-names li')
    named.nth(1).wait_for()
    assert [entry.inner_text().split()[1] for entry in named.all()] == shapes[:2]
    assert visitor.picture(panel.locator('#regions img')).shape == (512, 512, 3)
    page.get_by_label('Names to choose from').fill('star, star')
    page.get_by_role('button', name='Name the regions').click()
    page.locator('#region-fault').get_by_text("'star' stands twice").wait_for()
    assert not visitor.faults


def test_regions_without_the_page(server, tmp_path):
    """Boxes, and the parts of the segmentation, as the package names them; what is refused."""
    image, masks, shapes = draw_things(5, 1)
    path = tmp_path / 'things.png'
    cv2.imwrite(str(path), image[..., ::-1])
    client = gradio_client.Client(server[0], verbose=False)
    predictor = Predictor(ZERO_SHOT, device='cpu')
    boxes = [[int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
             for y, x in map(np.nonzero, masks)]
    typed = '\n'.join(', '.join(map(str, box)) for box in boxes)
    for kind, regions in (('boxes', boxes),
                          ('parts of the segmentation', predictor(image).labels)):
        for how in ('pool', 'colour'):
            scores, assigned = assign_regions(predictor.model, image, regions, shapes, how=how)
            fault, _, answer = client.predict(
                gradio_client.handle_file(path), kind, typed, ', '.join(shapes), how, False,
                api_name='/name_regions')
            assert not fault
            for number, place in enumerate(assigned):
                cosine = scores[place, number]
                assert f'<li>{number + 1}: {shapes[place]} <b>{cosine:.2f}</b></li>' in answer
    uploaded = dict(path=str(next(server[1].parent.glob('gradio/*/things.png'))))
    for picture, kind, boxes, names, how, said in [
            (uploaded, 'boxes', '', 'star', 'pool', 'there is no box yet'),
            (uploaded, 'boxes', '1, 2, 3', 'star', 'pool', 'is no box: left, top, right, bottom'),
            (uploaded, 'boxes', '1, 2, 3, nan', 'star', 'pool', 'a corner that is no number'),
            (uploaded, 'boxes', '500, 0, 600, 9', 'star', 'pool', 'region 0 has no pixel'),
            (uploaded, 'boxes', '0, 0, 9, 9\n' * 33, 'star', 'blur', '33 regions, of at most 32'),
            (uploaded, 'boxes', ' ' * 2001, 'star', 'pool', '2001 characters, of at most 2000'),
            (uploaded, 'boxes', 3, 'star', 'pool', 'Boxes has to be a text'),
            (uploaded, 'boxes', '0, 0, 9, 9', ['star'], 'pool',
             'Names to choose from has to be a text'),
            (uploaded, 'boxes', '0, 0, 9, 9', '<b>, <b>', 'pool', '&lt;b&gt;'),
            (uploaded, 'boxes', '0, 0, 9, 9', 'star', 'guess', 'how must be'),
            (dict(path=str(path)), 'boxes', '0, 0, 9, 9', 'star', 'pool', 'not uploaded here'),
            (None, 'boxes', '0, 0, 9, 9', 'star', 'pool', 'there is no picture yet')]:
        assert said in ask(server[0], picture, kind, boxes, names, how, False,
                           api='name_regions'), said


def ask(address: str, *data: object, api: str = 'segment') -> str:
    """What the page's server answers to a request that a visitor wrote."""
    call = f'{address}/gradio_api/call/{api}'
    asked = urlopen(Request(call, json.dumps(dict(data=data)).encode(),
                            {'Content-Type': 'application/json'}), timeout=60)
    return urlopen(f'{call}/{json.load(asked)["event_id"]}', timeout=60).read().decode()


def test_files_of_the_server_are_not_segmented(server, scene, tmp_path):
    """Asked for by path, past the page, with and without Gradio's mark; what was uploaded is."""
    private = tmp_path / 'private.png'
    cv2.imwrite(str(private), scene)
    client = gradio_client.Client(server[0], verbose=False)
    uploaded = gradio_client.handle_file(private)
    assert 'water' in client.predict(uploaded, 'water, grass', 1, 0, api_name='/segment')[3]
    uploads = next(server[1].parent.glob('gradio/*/private.png')).parents[1]
    os.mkfifo(tmp_path / 'fifo.png')
    os.symlink(private, tmp_path / 'link.png')
    answers = set()
    for path in (private, tmp_path / 'fifo.png', tmp_path / 'link.png', tmp_path / 'none.png',
                 tmp_path, '/dev/zero', '/etc/passwd', '', 'x' * 10**5, '\0', uploads,
                 f'{uploads}/../../log.txt', f'file://{private}', f'{uploads}-not/a.png'):
        answer = ask(server[0], dict(path=str(path)), 'water, grass', 1, 0)
        assert 'was not uploaded here' in answer, path
        answers.add(answer)
        answer = ask(server[0], dict(path=str(path), meta=dict(_type='gradio.FileData')),
                     'water, grass', 1, 0)
        assert 'water' not in answer and str(tmp_path) not in answer, path
        answers.add(answer)
        if str(path) not in ('', '\0'):
            assert answer.startswith('event: error'), path
    assert len(answers) <= 4  # they do not tell what is there
    again = dict(path=str(next(uploads.glob('*/private.png'))))
    assert 'water' in ask(server[0], again, 'water, grass', 1, 0)  # nothing blocks the server


def test_addresses_are_not_fetched(server, scene, tmp_path):
    with socket.socket() as elsewhere:
        elsewhere.bind(('127.0.0.1', 0))
        elsewhere.listen()
        elsewhere.settimeout(1)
        address = f'http://127.0.0.1:{elsewhere.getsockname()[1]}/picture.png'
        for picture in (dict(path=address), dict(path=address, url=address),
                        dict(path=address, meta=dict(_type='gradio.FileData')),
                        dict(path=address, url=address, meta=dict(_type='gradio.FileData')),
                        dict(url='data:image/png;base64,AAAA')):
            answer = ask(server[0], picture, 'water, grass', 1, 0)
            assert 'not uploaded here' in answer or 'no picture yet' in answer
        with pytest.raises(TimeoutError):
            elsewhere.accept()


def test_requests_that_the_page_does_not_send(server, scene, tmp_path):
    cv2.imwrite(str(tmp_path / 'uploaded.png'), scene)
    client = gradio_client.Client(server[0], verbose=False)
    client.predict(gradio_client.handle_file(tmp_path / 'uploaded.png'), 'water, grass', 1,
                   api_name='/segment')
    picture = dict(path=str(next(server[1].parent.glob('gradio/*/uploaded.png'))))
    for names, opacity, said in [
            (['water', 'grass'], 1, 'Class names has to be a text'),
            ({'a': 1}, 1, 'Class names has to be a text'),
            ('water, grass', 'x', 'Opacity of the classes has to be a number'),
            ('water, grass', None, 'Opacity of the classes has to be a number'),
            ('water, , grass', 1, '>a name is empty; type names with one comma between two'),
            ('water, 1: x', 1, '>name 1 (&#x27;1: x&#x27;) starts with a number'),
            ('x' * 10**5, 1, 'have 100000 characters, of at most 20000'),
            (f'a{" " * 10**5}b', 1, 'have 100002 characters'),
            ('water, grass', float('nan'), 'water'), ('water, grass', 1e308, 'water'),
            ('water, grass', -1, 'water')]:
        assert said in ask(server[0], picture, names, opacity, 0)
    assert '1: ' in ask(server[0], picture, 'boxes', '0, 0, 99, 99', '猫, 🐈', 'pool', False,
                       api='name_regions')
    assert 'Warning' not in server[1].read_text()


def test_what_is_kept_is_small_and_says_the_same(scene, load_tool):
    """At 1,024 pixels 3.4 MB, where a result has 380; every click and slider as from the result."""
    app = load_tool('app')
    picture = cv2.resize(scene, (1024, 1024))
    result = app.Segmenter(Predictor(ZERO_SHOT, device='cpu'))('', picture)
    kept = app.keep(result, dict(path='a.png'))
    assert result.score_map.shape == (30, 1024, 1024)
    assert len(pickle.dumps(kept)) < 3.45e6
    unpacked = kept.unpacked()
    np.testing.assert_array_equal(unpacked.labels, result.labels)
    for lowest in np.linspace(0.05, 1, 20):
        np.testing.assert_array_equal(unpacked.or_other(float(lowest)).labels,
                                      result.or_other(float(lowest)).labels)
    cells = np.stack([cv2.resize(each, (128, 128), interpolation=cv2.INTER_AREA)
                      for each in result.score_map]).astype(np.float16)
    rng = np.random.default_rng(0)
    for x, y in [(0, 0), (1023, 1023), *rng.integers(0, 1024, (200, 2)).tolist()]:
        said = app.scores_at(unpacked, kept.best, x, y)
        assert f', cosine {result.scores[y, x]:.2f}.' in said
        cosines = cells[:, y // 8, x // 8]
        assert re.findall(r'<li>(.*?) <b>(.*?)</b>', said) == [
            (result.class_names[index], f'{cosines[index]:.2f}')
            for index in np.argsort(-cosines, kind='stable')[:5]]
    assert app.scores_at(unpacked, kept.best, -5, 10**30) == app.scores_at(
        unpacked, kept.best, 0, 1023)


def test_what_is_kept_of_scores_at_the_ends(load_tool):
    """Also of a model without a score map, and of more names than 8 bits count."""
    app = load_tool('app')
    scores = np.array([[-1, -0.004, 0, 0.3], [0.9999, 1, 1.0000001, 0.55]], np.float32)
    labels = np.array([[0, 299, 1, 2], [3, 4, 5, 6]])
    result = Prediction(np.zeros((2, 4, 3), np.uint8), labels, scores, None,
                        [*map(str, range(300))], [(0, 0, 0)] * 300, 'decode head')
    kept = app.keep(result, {})
    assert kept.best is None
    np.testing.assert_array_equal(kept.unpacked().labels, labels)
    np.testing.assert_allclose(kept.unpacked().scores, scores, atol=1 / 25_000)
    assert app.scores_at(kept.unpacked(), None, 3, 0) == 'At 3, 0: <b>2</b>, probability 0.30.'


def test_what_is_kept_of_things(load_tool):
    pytest.importorskip('mmdet')
    app, rng = load_tool('app'), np.random.default_rng(0)
    picture = rng.integers(0, 256, (300, 400, 3), np.uint8)
    masks = np.zeros((60, 300, 400), bool)
    masks[:, 40:200, 100:300] = rng.random((60, 1, 200)) > 0.3
    result = Detection(picture, rng.random((60, 4)) * 300, rng.random(60), np.arange(60) % 2, masks,
                       rng.random((2, 8, 9)), ['sky', 'sea'], [(0, 0, 255), (0, 255, 0)],
                       'detector')
    kept = app.keep(result, {})
    assert len(pickle.dumps(kept)) < masks.nbytes / 50
    for lowest in (0, 0.5, 1):
        same = replace(kept.unpacked(), image=picture).above(lowest)
        np.testing.assert_array_equal(same.overlay(), result.above(lowest).overlay())
        assert same.counts() == result.above(lowest).counts()
    boxes_alone = app.keep(replace(result, masks=None), {}).unpacked()
    assert boxes_alone.masks is None


@pytest.fixture
def serving(monkeypatch, tmp_path):
    """A page of this process, as tests/attacks has it."""
    spec = importlib.util.spec_from_file_location('page', ROOT / 'tests/attacks/page.py')
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    with page.serving(tmp_path) as at:
        yield at


def test_a_visitor_who_is_forgotten_is_told_to_press_again(serving, capfd):
    """At most as many are kept as the page says; sliders repaint from what is kept."""
    holder, visitor = serving.page.app.state_holder, serving.visitor
    assert holder.capacity == 50
    holder.capacity = 2
    picture = dict(path=serving.uploaded, meta=dict(_type='gradio.FileData'))
    repaint, look = (next(index for name, index in visitor.handlers.items()
                          if name.startswith(kind)) for kind in ('repaint', 'look'))

    def data(answer):
        return json.loads(answer[1].split('data: ')[-1])

    def event(answer):
        [last] = [line for line in answer[1].splitlines() if 'process_completed' in line]
        return json.loads(last.removeprefix('data: '))['output']['data']
    shown = {}
    for name in ('first', 'second'):
        answer = data(visitor.call('segment', picture, 'snow, water', 1, 0, session_hash=name))
        shown[name] = answer[2]
    fault, overlay, legend = event(visitor.join(
        repaint, [None, shown['first'], 0, 0.99], 'first'))
    assert fault == '' and '0 of 2 names occur' in legend
    with Image.open(overlay['path']) as painted:
        assert (np.asarray(painted) == 99).all()
    click = dict(event_data=dict(index=[5, 6], value=None))
    assert 'At 5, 6: ' in event(visitor.join(look, [None, 0], 'first', **click))[0]
    visitor.call('segment', picture, 'snow, water', 1, 0, session_hash='third')
    assert len(holder.session_data) == 2 and 'first' in holder.session_data
    gone = 'the result is kept no longer; press the button again'
    assert gone in event(visitor.join(look, [None, 0], 'second', **click))[0]
    assert gone in event(visitor.join(repaint, [None, shown['second'], 0, 0], 'second'))[0]
    assert 'kept' not in str(event(visitor.join(repaint, [None, None, 0, 0], 'new')))
    visitor.call('segment', picture, 'snow, water', 1, 0, session_hash='new')
    Path(serving.uploaded).unlink()  # as Gradio deletes it after an hour
    assert 'not uploaded here' in event(visitor.join(
        repaint, [None, shown['first'], 0, 0], 'new'))[0]
    assert 'Traceback' not in ''.join(capfd.readouterr())


def test_faults_of_the_program_leave_a_trace(serving, capfd, monkeypatch):
    """Odd values leave a line; neither tells the visitor more than that."""
    for error, traces in [(RuntimeError('a fault at /home'), 1), (KeyError('odd'), 0)]:
        async def fail(*_, error=error):
            raise error
        monkeypatch.setattr(serving.page, 'preprocess_data', fail)
        code, said = serving.visitor.call('segment', None, 'a, b', 1, 0)
        assert code == 200 and 'the page cannot answer this request; its log says why' in said
        assert '/home' not in said
        log = ''.join(capfd.readouterr())
        assert ('Traceback' in log) == traces
        assert traces or "no answer to a request: KeyError: \"'odd'\" (test_app.py, line " in log


def test_names_of_one_visitor_are_not_those_of_another(scene, tmp_path, load_tool):
    """The decoder goes on answering to the model's own names; many ask at the same time."""
    app = load_tool('app')
    checkpoint = save_untrained(DENSECLIP, tmp_path / 'model.pth')
    predictor = Predictor(DENSECLIP, checkpoint, device='cpu')
    segmenter = app.Segmenter(predictor)
    before = segmenter('', scene)
    assert before.labelled_by == 'decode head' and len(before.class_names) == 30
    asked = [['water', 'red circle'], ['red circle', 'water', 'grass'], list(CLASSES[:30])]
    expected = []
    for names in asked:
        alone = Predictor(DENSECLIP, checkpoint, device='cpu', class_names=names)
        expected.append(alone(scene))
    barrier = threading.Barrier(6)

    def ask(visitor):
        barrier.wait()
        return [segmenter(', '.join(asked[visitor % 3]), scene) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(ask, range(6)))
    for visitor, predictions in enumerate(results):
        for prediction in predictions:
            assert prediction.labelled_by == 'score map'
            assert prediction.class_names == asked[visitor % 3]
            np.testing.assert_array_equal(prediction.labels, expected[visitor % 3].labels)
            np.testing.assert_allclose(
                prediction.score_map, expected[visitor % 3].score_map, atol=1e-5)
    after = segmenter(', '.join(before.class_names), scene)
    assert after.labelled_by == 'decode head' and after.class_names == before.class_names
    np.testing.assert_array_equal(after.labels, before.labels)


def test_names_that_occur_are_counted(scene, load_tool):
    """A name that reads 'other' is one of them, and what has none of the names is not."""
    app = load_tool('app')
    segmenter = app.Segmenter(Predictor(ZERO_SHOT, device='cpu'))
    for names, label, lowest, said in [('other, snow', 0, 0, '1 of 2'), ('water', 0, 1, '0 of 1'),
                                       ('other, snow', 1, 1, '1 of 2'),
                                       ('water, snow', 0, 0, '1 of 2'),
                                       ('water, snow', 1, 1, '0 of 2')]:
        prediction = segmenter(names, scene, alone=True)
        prediction = replace(prediction, labels=np.full_like(prediction.labels, label))
        prediction = prediction.or_other(lowest) if lowest else prediction
        assert f'labelled the pixels: {said} names occur' in app.describe(prediction)


def test_a_picture_is_looked_at_once(scene, load_tool):
    """Whatever names are asked; another picture is looked at, too."""
    predictor, looks = Predictor(ZERO_SHOT, device='cpu'), []
    predictor.model.backbone.register_forward_hook(lambda *_: looks.append(1))
    segmenter = load_tool('app').Segmenter(predictor)
    for text in ('', 'water, grass', 'red circle, water', ''):
        segmenter(text, scene.copy())
    assert len(looks) == 1
    mirrored = segmenter('water, grass', scene[:, ::-1])
    assert len(looks) == 2
    predictor.set_class_names(['water', 'grass'])
    np.testing.assert_array_equal(mirrored.labels, predictor(scene[:, ::-1]).labels)


def test_one_visitor_at_a_time(scene, load_tool):
    class Slow:
        class_names, labelled_by = ['water', 'grass'], 'score map'
        inside, most = 0, 0

        def set_image(self, image):
            self.inside += 1
            self.most = max(self.most, self.inside)

        def predict(self, names, other):
            time.sleep(0.02)
            self.inside -= 1
            return prediction
    prediction = Prediction(scene, np.zeros((512, 512), int), np.ones((512, 512)), None, ['water'],
                            [(0, 0, 0)], 'score map')
    slow = Slow()
    segmenter = load_tool('app').Segmenter(slow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: segmenter('', scene[number:]), range(4)))
    assert slow.most == 1


def test_sizes_of_pictures(scene, load_tool):
    segmenter = load_tool('app').Segmenter(Predictor(ZERO_SHOT, device='cpu'))
    wide = np.concatenate([scene] * 3, axis=1)  # (512, 1536)
    for image, shape in [(wide, (341, 1024)), (scene[:1, :10], (1, 10)), (scene[:1, :1], (1, 1))]:
        prediction = segmenter('', image)
        assert prediction.labels.shape == prediction.image.shape[:2] == shape
    with pytest.raises(ValueError, match='a picture of 11 x 1 pixels is too narrow'):
        segmenter('', scene[:1, :11])


def test_a_model_without_language(tmp_path, scene, load_tool):
    app = load_tool('app')
    config = ROOT / 'configs/demo/clip_fpn_scenes.py'
    checkpoint = save_untrained(config, tmp_path / 'model.pth')
    segmenter = app.Segmenter(Predictor(config, checkpoint, device='cpu'))
    prediction = segmenter('', scene)
    assert prediction.labelled_by == 'decode head'
    assert app.draw_score_maps(prediction) == (
        'This model has no score map: it knows no language.', [])
    with pytest.raises(ValueError, match='names need a score map'):
        segmenter('water, grass', scene)


def test_a_detector(tmp_path, scene, load_tool):
    """Things in the legend, most first; the score maps of those that were found come first."""
    pytest.importorskip('mmdet')
    app, config = load_tool('app'), tmp_path / 'any_score.py'
    detector = ROOT / 'configs/detection/denseclip_mask_rcnn_scenes.py'
    config.write_text(f"_base_ = '{detector}'\n"
                      'model = dict(test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=6)))\n')
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        model = build_model(load_config(str(config), options=None, launcher='none', work_dir=None),
                            'cpu')
        model.init_weights()
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
        segmenter = app.Segmenter(Predictor(config, tmp_path / 'model.pth', device='cpu'))
        page = app.build_page(segmenter, {})
        own = segmenter('', scene)
        named = segmenter('red circle, wooden floor, water', scene)
    assert {'Find', 'Lowest score', 'Things'} <= {
        getattr(block, 'value', None) for block in page.blocks.values()
        if isinstance(getattr(block, 'value', None), str)} | {
        getattr(block, 'label', None) for block in page.blocks.values()}
    assert 'The <b>detector</b> named 6 things: ' in app.describe(own)
    legend = app.describe(named)
    assert 'The <b>score map in the boxes of the detector</b> named' in legend
    counts = named.counts()
    assert sum(counts.values()) == len(named.labels) and 'of 3 names occur' in legend
    for index, count in counts.items():
        assert f'{named.class_names[index]} <b>&times; {count}</b>' in legend
    titles = [title for _, title in app.draw_score_maps(named)[1]]
    assert titles[:len(counts)] == [named.class_names[index] for index in counts]
    assert sorted(titles) == sorted(named.class_names)


@pytest.fixture
def refusal(run_tool, tmp_path):
    """Starts the app as from a command line; returns what it says when it stops."""
    def refusal(*words: object) -> str:
        done = run_tool('app', *words, cwd=tmp_path)
        assert done.returncode == 1
        return done.stderr.splitlines()[-1]
    return refusal


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')  # uvicorn's
def test_one_line_errors(monkeypatch, load_tool, refusal):
    assert refusal('missing.py').startswith("error: there is no config 'missing.py'")
    assert refusal(ZERO_SHOT, 'no.pth').startswith(
        "error: there is no checkpoint 'no.pth'")
    assert refusal(DENSECLIP).startswith('error: this model learns ')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refusal('--port', port) == (
            f'error: nothing can listen at 127.0.0.1, port {port}; name others by --host and '
            '--port')
    assert 'port 99999;' in refusal('--port', 99999)
    assert 'listen at 192.0.2.1,' in refusal('--host', '192.0.2.1')
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(SystemExit, match=r"needs Gradio: pip install 'denseclip_mm\[app\]'"):
        load_tool('app')
