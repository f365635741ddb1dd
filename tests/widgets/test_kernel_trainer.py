"""The kernel that is trained in a page, beside the same training in torch."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from indiret.datasets import load_dataset
from indiret.widgets import KernelTrainer, small_tensors
from tests.widgets.pages import Opened, page_of
from tests.widgets.test_payload import unpack_header


@pytest.fixture(scope="module")
def samples():
    return small_tensors(load_dataset("toytown", split="validation"), 6)


class OpenedKernel(Opened):
    kind = "kernel"

    @property
    def kernel(self) -> np.ndarray:
        return np.array([float(x) for x in self.host.get_attribute("data-kernel").split(",")])


@pytest.fixture
def opened(open_page, tmp_path):
    return lambda made, **more: open_page(OpenedKernel, page_of(made.to_html(), tmp_path), **more)


def stored(payload: bytes) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all known query patches of training pairs: what the taps see (N, places, 81), partners."""
    header, rest = unpack_header(payload)
    m, n, K, L = header["grid"]
    seen, partners = [], []
    values = torch.tensor(np.frombuffer(rest, np.uint8)).float() * header["high"] / header["levels"]
    for view, truth in zip(values.reshape(-1, m, n, K, L), header["training"], strict=False):
        around = F.pad(view, (1,) * 8)
        for axis, side in enumerate((m, n, K, L)):
            around = around.unfold(axis, side, 1)  # the taps lead, the places follow
        taps = around.reshape(81, m * n, K * L)
        known = torch.tensor(truth) >= 0
        seen.append(taps.permute(2, 1, 0)[known])
        partners.append(torch.tensor(truth)[known])
    return torch.cat(seen), torch.cat(partners)


def torch_training(payload: bytes, steps: int, penalty: float) -> np.ndarray:
    """By autograd: steps down the gradient, each followed by the penalty's soft threshold."""
    seen, partners = stored(payload)
    kernel = torch.full((81,), 1 / 81)
    for _ in range(steps):
        kernel.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(seen @ kernel, partners), kernel)
        moved = kernel.detach() - 0.2 * gradient
        kernel = moved.sign() * (moved.abs() - 0.2 * penalty).clamp_min(0)
    return kernel.numpy()


def test_the_page_trains_the_kernel_that_torch_trains(opened, samples):
    made = KernelTrainer(samples[:4], samples[4:])
    one = opened(made)
    np.testing.assert_allclose(one.kernel, 1 / 81)
    for _ in range(5):
        one.page.get_by_role("button", name="one step").click()
    np.testing.assert_allclose(one.kernel, torch_training(made.payload, 5, 0.1), atol=1e-4)
    assert one.readout.startswith("Step 5: ")
    one.page.get_by_role("button", name="start again").click()
    one.page.get_by_label("penalty").fill("0")
    one.page.get_by_role("button", name="one step").click()
    np.testing.assert_allclose(one.kernel, torch_training(made.payload, 1, 0.0), atol=1e-4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_diagonal_appears_and_pausing_stops_it(opened, samples, scheme):
    one = opened(KernelTrainer(samples, samples), width=375, scheme=scheme)
    play = one.page.locator("button").first
    play.click()
    play.get_by_text("pause").wait_for()
    play.click()
    play.get_by_text("train").wait_for()
    before = one.readout
    one.page.wait_for_timeout(200)
    assert play.text_content() == "train" and one.readout == before
    play.click()
    one.page.wait_for_function(
        "() => document.querySelector('.indiret-kernel > div').shadowRoot"
        ".querySelector('button').textContent === 'train'"
    )
    kernel = one.kernel.reshape(9, 9)
    assert np.trace(kernel) > 0.7 * np.abs(kernel).sum()
    assert (np.abs(kernel) > 0).sum() < 30
    one.page.get_by_role("application").focus()
    one.press("ArrowUp", "ArrowLeft")
    assert f"left: {kernel[3, 3]:.2f}" in one.page.locator(".keys").first.text_content()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 375


def test_what_cannot_be_trained_is_refused(samples):
    (view, partners), *_ = samples
    with pytest.raises(ValueError, match="give one shape"):
        KernelTrainer([(view, partners)], [(view[:4], partners)])
    with pytest.raises(ValueError, match="partners of both"):
        KernelTrainer([(view, partners)], [(view, np.full_like(partners, -1))])
    with pytest.raises(ValueError, match="infinity"):
        KernelTrainer([(view * torch.nan, partners)], samples)
    with pytest.raises(ValueError, match="count is 0"):
        small_tensors(load_dataset("toytown", split="validation"), 0)
