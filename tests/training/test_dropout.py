"""Dropout: the share and the scale of `nn.Dropout`, the same mask in both directions, none in evaluation."""

import pytest
import torch

from training.dropout import Dropout


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5, 0.9])
def test_it_zeroes_its_share_and_keeps_the_mean(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(200, 501, requires_grad=True)
    dropped = Dropout(probability)(x)
    assert (dropped == 0).float().mean().item() == pytest.approx(probability, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())  # of ones: the mask itself


def test_of_the_highest_probability_something_is_left() -> None:
    torch.manual_seed(0)
    assert Dropout(0.999)(torch.ones(200, 501)).unique().tolist() == [0.0, 256.0]


def test_masks_follow_pytorch_s_seed() -> None:
    layer, x = Dropout(0.5), torch.ones(64)
    torch.manual_seed(1)
    first = layer(x)
    assert not torch.equal(layer(x), first)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)


def test_nothing_is_dropped_in_evaluation_or_at_probability_zero() -> None:
    x = torch.ones(64)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
