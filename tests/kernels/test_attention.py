import pytest
import torch

from llmhpc.kernels import attention


def heads(dtype=torch.float32, *, query=4, key=2, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 33, n, 16, generator=generator, dtype=torch.float64)
        .to(device, dtype)
        .requires_grad_()
        for n in (query, key, key)
    ]


def compare(attend, *, tolerance, gradient_tolerance, **kwargs):
    exact = [x.detach().cpu().double().requires_grad_() for x in heads(**kwargs)]
    tried = heads(**kwargs)
    expected, got = attention.reference(*exact), attend(*tried)
    torch.testing.assert_close(got.cpu().double(), expected, atol=tolerance, rtol=tolerance)
    expected.square().sum().backward()
    got.square().sum().backward()
    for one, other in zip(exact, tried, strict=True):
        torch.testing.assert_close(
            other.grad.cpu().double(), one.grad, atol=gradient_tolerance, rtol=gradient_tolerance
        )


@pytest.mark.parametrize("key", [1, 2, 4])
def test_sdpa_equals_the_float64_reference_forward_and_backward(key):
    compare(attention.sdpa, tolerance=1e-5, gradient_tolerance=1e-4, key=key)


def test_a_token_sees_nothing_that_comes_after_it():
    q, k, v = heads()
    before = attention.reference(q, k, v)
    with torch.no_grad():
        k[:, 20:] = 7.0
        v[:, 20:] = -7.0
    after = attention.reference(q, k, v)
    torch.testing.assert_close(after[:, :20], before[:, :20])
    assert not torch.allclose(after[:, 20:], before[:, 20:])


@pytest.mark.parametrize(
    ("device", "dtype", "head_dim", "reason"),
    [
        ("cpu", torch.bfloat16, 64, "CUDA"),
        ("cuda", torch.bfloat16, 64, "not installed"),
    ],
)
def test_the_chooser_takes_sdpa_and_says_why(device, dtype, head_dim, reason):
    if attention.importlib.util.find_spec("flash_attn"):
        pytest.skip("flash-attn is installed")
    choice = attention.choose(device, dtype, head_dim)
    assert choice.name == "sdpa"
    assert reason in choice.reason


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_what_the_chooser_takes_on_a_gpu_equals_the_reference():
    choice = attention.choose("cuda", torch.bfloat16, 16)
    compare(
        choice.attend, tolerance=2e-2, gradient_tolerance=2e-1, dtype=torch.bfloat16, device="cuda"
    )
