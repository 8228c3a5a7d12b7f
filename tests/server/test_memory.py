"""What memory is offered, by trees of files like those of real machines, and how it is shared out."""

import resource
from dataclasses import replace

import psutil
import pytest

from simplenet.errors import SettingError
from simplenet.server.memory import GIB, MIB, offered_bytes, plan_memory

V1 = "12:cpu:/a\n4:memory:{0}\n0::/\n"
V2 = "0::{0}\n"


@pytest.fixture(autouse=True)
def _not_given(monkeypatch):
    monkeypatch.delenv("SIMPLENET_MEMORY", raising=False)


def machine(root, group: str | None = None, limits: dict[str, str] | None = None):
    """A file system with the limits of a cgroup."""
    files = dict(limits or {})
    if group is not None:
        files["proc/self/cgroup"] = group
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("group", "limits", "offered"),
    [
        pytest.param(None, {}, 24 * GIB, id="no cgroups"),
        pytest.param(V2.format("/"), {"sys/fs/cgroup/memory.max": f"{2 * GIB}\n"}, 2 * GIB, id="v2, a container"),
        pytest.param(V2.format("/a/b"), {"sys/fs/cgroup/a/b/memory.max": "max\n"}, 24 * GIB, id="v2, no limit"),
        pytest.param(
            V2.format("/a/b"),
            {"sys/fs/cgroup/a/memory.max": f"{3 * GIB}", "sys/fs/cgroup/a/b/memory.max": f"{4 * GIB}"},
            3 * GIB,
            id="v2, the parent has less",
        ),
        pytest.param(
            V2.format("/a"), {"sys/fs/cgroup/a/memory.max": f"{64 * GIB}"}, 24 * GIB, id="v2, more than the machine"
        ),
        pytest.param(
            V1.format("/docker/1"), {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}"}, GIB, id="v1, a container"
        ),
        pytest.param(
            V1.format("/a/b"), {"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": f"{GIB}"}, GIB, id="v1, a service"
        ),
        pytest.param(
            V1.format("/"),
            {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"},
            24 * GIB,
            id="v1, no limit",
        ),
        pytest.param(V1.format("/a"), {"sys/fs/cgroup/cpu/a/memory.max": "1"}, 24 * GIB, id="another controller"),
        pytest.param(
            V1.format("/a"), {"sys/fs/cgroup/unified/memory.max": f"{5 * GIB}"}, 5 * GIB, id="v1 and v2 together"
        ),
    ],
)
def test_the_least_limit_counts(tmp_path, group, limits, offered):
    assert offered_bytes(machine(tmp_path, group, limits), -1, 24 * GIB) == offered


def test_a_limit_on_the_address_space_counts(tmp_path):
    assert offered_bytes(machine(tmp_path), 6 * GIB, 24 * GIB) == 6 * GIB


def test_this_machine_has_memory():
    assert offered_bytes() > 0


def test_a_machine_without_proc_has_its_physical_memory(tmp_path):
    assert offered_bytes(tmp_path, address_space=-1) == psutil.virtual_memory().total


@pytest.mark.parametrize(("given", "offered"), [("1500m", 1500 * MIB), ("2G", 2 * GIB), ("1073741824", GIB)])
def test_the_users_own_size_comes_first(tmp_path, monkeypatch, given, offered):
    monkeypatch.setenv("SIMPLENET_MEMORY", given)
    assert offered_bytes(machine(tmp_path), -1, 24 * GIB) == offered


@pytest.mark.parametrize("given", ["much", "-1g", "2.5g", "0"])
def test_a_size_that_is_none_is_refused(tmp_path, monkeypatch, given):
    monkeypatch.setenv("SIMPLENET_MEMORY", given)
    with pytest.raises(SettingError, match=r"SIMPLENET_MEMORY: expected a size like 1500m or 2g, found"):
        offered_bytes(machine(tmp_path))


def test_with_memory_enough_nothing_is_smaller_than_it_was():
    plan = plan_memory(24 * GIB, 1, {})
    assert (plan.heap, plan.direct, plan.budget, plan.max_request_size) == (4 * GIB, 2 * GIB, 64 * 16 * MIB, 16 * MIB)
    assert str(plan) == (
        "memory: 24.0 GiB offered; Java heap 4.0 GiB, direct 2.0 GiB: up to 64 bodies of 16 MiB at once"
    )


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("offered", [1, 2, 3, 4, 6, 8, 12])
def test_all_parts_together_fit_into_what_is_offered(offered, workers):
    plan = plan_memory(offered * GIB, workers, {})
    fixed = 200 * MIB + 130 * MIB + workers * 240 * MIB
    if fixed < offered * GIB * 0.8:
        assert fixed + plan.heap + plan.direct + 3 * plan.budget <= offered * GIB
    assert plan.heap >= 96 * MIB + 3 * plan.budget
    assert plan.direct >= min(2 * GIB, 32 * MIB + 2 * plan.budget)


def test_the_number_of_bodies_grows_with_the_memory():
    budgets = [plan_memory(size * GIB // 2, 1, {}).budget for size in range(1, 49)]
    assert budgets == sorted(budgets)
    assert budgets[0] < budgets[8] < budgets[16] < budgets[-1]


def test_where_one_body_does_not_fit_bodies_must_be_smaller_and_it_is_said():
    plan = plan_memory(GIB, 2, {"max_request_size": str(16 * MIB)})
    assert plan.max_request_size == plan.budget < 16 * MIB
    assert str(plan).endswith("at once, max_request_size lowered to that")
    assert plan_memory(2 * GIB, 1, {"max_request_size": str(16 * MIB)}).max_request_size == 16 * MIB


def test_a_request_size_of_the_users_own_stays():
    plan = plan_memory(GIB, 2, {"max_request_size": str(20 * MIB)})
    assert plan.max_request_size == 20 * MIB
    assert "but max_request_size allows more than" in str(plan)


@pytest.mark.parametrize("given", ["16m", "", "-1", "0", "1.5", "2147483648"])
def test_a_request_size_that_torchserve_cannot_read_is_refused(given):
    expected = r"config.properties: max_request_size: expected a number of bytes from 1 to 2147483647, found"
    with pytest.raises(SettingError, match=f"{expected} {given!r}"):
        plan_memory(GIB, 1, {"max_request_size": given})


def test_with_memory_enough_a_response_may_be_as_large_as_configured():
    plan = plan_memory(24 * GIB, 1, {"max_response_size": str(32 * MIB)})
    assert (plan.max_response_size, plan.batch_response) == (32 * MIB, 128 * MIB)
    small = plan_memory(24 * GIB, 1, {"max_response_size": "1000"})
    assert (small.max_response_size, small.batch_response) == (1000, 128 * MIB)
    large = plan_memory(24 * GIB, 1, {"max_response_size": str(200 * MIB)})
    assert (large.max_response_size, large.batch_response) == (200 * MIB, 200 * MIB)


@pytest.mark.parametrize(("configured", "expected"), [(MIB, 32 * MIB), (100 * MIB, 100 * MIB)])
def test_on_a_stock_frontend_a_batch_may_not_be_so_large(configured, expected):
    plan = replace(plan_memory(24 * GIB, 1, {"max_response_size": str(configured)}), enforced=False)
    assert plan.environment()["SIMPLENET_MAX_BATCH_RESPONSE"] == str(expected)


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("offered", [1, 2, 4, 12, 64])
def test_the_responses_of_all_workers_at_once_fit_into_javas_memory(offered, workers):
    plan = plan_memory(offered * GIB, workers, {})
    assert 3 * workers * plan.batch_response < plan.heap
    assert workers * plan.batch_response < plan.direct
    assert 0 < plan.max_response_size <= plan.batch_response


def test_the_workers_are_told_how_large_their_responses_may_be():
    plan = plan_memory(GIB, 2, {})
    assert plan.environment() == {
        "SIMPLENET_MAX_RESPONSE": str(plan.max_response_size),
        "SIMPLENET_MAX_BATCH_RESPONSE": str(plan.batch_response),
    }


def test_a_response_size_that_torchserve_cannot_read_is_refused():
    with pytest.raises(SettingError, match=r"max_response_size: expected a number of bytes .*, found '32m'; 32 MiB"):
        plan_memory(GIB, 1, {"max_response_size": "32m"})


@pytest.mark.parametrize(
    ("vmargs", "heap", "direct", "budget"),
    [
        ("-Xmx480m -XX:+UseSerialGC", 480 * MIB, 2 * GIB, 128 * MIB),
        ("-XX:MaxHeapSize=480m", 480 * MIB, 2 * GIB, 128 * MIB),
        ("-Xmx8g", 8 * GIB, 2 * GIB, GIB),
        ("-XX:MaxDirectMemorySize=160m", 4 * GIB, 160 * MIB, 64 * MIB),
        ("-Xmx1g -Xmx480m", 480 * MIB, 2 * GIB, 128 * MIB),
    ],
)
def test_the_users_own_options_win_and_the_budget_follows_them(vmargs, heap, direct, budget):
    plan = plan_memory(24 * GIB, 1, {"vmargs": vmargs})
    assert (plan.heap, plan.direct, plan.budget) == (heap, direct, budget)


def test_a_stock_frontend_keeps_no_budget_and_it_is_said():
    from dataclasses import replace

    assert "no limit on bodies" in str(replace(plan_memory(2 * GIB, 1, {}), enforced=False))


def test_java_starts_with_no_more_heap_than_it_may_have():
    options = plan_memory(24 * GIB, 1, {"vmargs": "-Xmx64m"}).java_options()
    assert options[:2] == ["-Xms64m", "-Xmx64m"]


def test_connections_are_limited_by_direct_memory_and_by_descriptors(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1 << 20))
    assert plan_memory(24 * GIB, 1, {}).connections == 2 * GIB // 2 // (16 << 10)
    small = plan_memory(GIB, 1, {})
    assert small.connections == small.direct // 2 // (16 << 10)
    assert f"-Dsimplenet.connections={small.connections}" in small.java_options()
    for limit, expected in ((4096, 4096 - 512), (600, 256), (resource.RLIM_INFINITY, 65_536)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (1024, limit))
        assert plan_memory(24 * GIB, 1, {}).connections == expected
