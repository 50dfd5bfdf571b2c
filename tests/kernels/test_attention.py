import pytest
import torch

from llmhpc.kernels import attention
from llmhpc.kernels.documents import Documents


def heads(dtype=torch.float32, *, query=4, key=2, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 33, n, 16, generator=generator, dtype=torch.float64)
        .to(device, dtype)
        .requires_grad_()
        for n in (query, key, key)
    ]


def compare(attend, *, tolerance, gradient_tolerance, exact=attention.reference, **kwargs):
    inputs = [x.detach().cpu().double().requires_grad_() for x in heads(**kwargs)]
    tried = heads(**kwargs)
    expected, got = exact(*inputs), attend(*tried)
    torch.testing.assert_close(got.cpu().double(), expected, atol=tolerance, rtol=tolerance)
    expected.square().sum().backward()
    got.square().sum().backward()
    for one, other in zip(inputs, tried, strict=True):
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


def packed(device="cpu"):
    """Two sequences of 33 tokens: documents of 5, 1, 20 and 7, and a whole one."""
    lengths = [[5, 1, 20, 7], [33]]
    rows = [torch.cat([torch.arange(n) for n in row]) for row in lengths]
    return Documents(torch.stack(rows), torch.device(device))


def masked(attend, device="cpu"):
    return lambda q, k, v: attend(q, k, v, packed(device))


@pytest.mark.parametrize("key", [1, 2, 4])
def test_packed_documents_attend_as_each_does_alone(key):
    tried = heads(key=key, dtype=torch.float64)
    alone = [x.detach().clone().requires_grad_() for x in tried]
    got = attention.reference(*tried, packed())
    parts = [slice(0, 5), slice(5, 6), slice(6, 26), slice(26, 33)]
    first = [attention.reference(*(x[:1, part] for x in alone)) for part in parts]
    expected = torch.cat([torch.cat(first, 1), attention.reference(*(x[1:] for x in alone))])
    torch.testing.assert_close(got, expected)
    expected.square().sum().backward()
    got.square().sum().backward()
    for one, other in zip(alone, tried, strict=True):
        torch.testing.assert_close(other.grad, one.grad)


@pytest.mark.parametrize("key", [1, 2, 4])
def test_sdpa_of_packed_documents_equals_the_float64_reference(key):
    compare(
        masked(attention.sdpa),
        exact=masked(attention.reference),
        tolerance=1e-5,
        gradient_tolerance=1e-4,
        key=key,
    )


def test_offsets_are_where_documents_begin_in_all_sequences():
    assert packed().offsets.tolist() == [0, 5, 6, 26, 33, 66]
    assert packed().offsets.dtype == torch.int32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_packed_documents_on_a_gpu_equal_the_reference():
    choice = attention.choose("cuda", torch.bfloat16, 16)
    compare(
        masked(choice.attend, "cuda"),
        exact=masked(attention.reference),
        tolerance=2e-2,
        gradient_tolerance=2e-1,
        dtype=torch.bfloat16,
        device="cuda",
    )
