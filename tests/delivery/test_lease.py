"""One runner per service, whoever comes, dies, or comes back."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

import psutil
import pytest
import sqlalchemy

from pithead.delivery import lease
from pithead.delivery.journal import Journal
from pithead.delivery.journal_tables import leases

Spawn = Callable[..., "subprocess.Popen[str]"]
OpenJournal = Callable[..., Journal]

CONTENDER = """
import sys
from pithead.delivery import lease
from pithead.delivery.journal import Journal
journal = Journal(sys.argv[1], "shop")
print("ready", flush=True)
sys.stdin.readline()
mine = lease.take(journal, sys.argv[2])
print(mine.epoch if mine else "none", flush=True)
sys.stdin.readline()
"""


def contend(spawn: Spawn, url: str, names: list[str]) -> dict[str, tuple[subprocess.Popen[str], str]]:
    """All at once: name → its process, still there, and the epoch that it got, or "none"."""
    processes = {name: spawn(CONTENDER, url, name) for name in names}
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    found = {}
    for name, process in processes.items():
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, process.communicate()[1]
        found[name] = (process, line)
    return found


def change(journal: Journal, **values: object) -> None:
    with journal.writing() as connection:
        connection.execute(sqlalchemy.update(leases).values(**values))


def taken(journal: Journal, name: str = "me") -> lease.Holder:
    mine = lease.take(journal, name)
    assert mine is not None
    return mine


def test_of_many_contenders_one_gets_it_and_kill_9_frees_it_at_once(
    database: str, spawn: Spawn, open_journal: OpenJournal
) -> None:
    journal = open_journal(database)
    assert lease.holder(journal) is None
    found = contend(spawn, database, [f"runner{n}" for n in range(5)])
    winners = [name for name, (_, epoch) in found.items() if epoch != "none"]
    assert len(winners) == 1
    winner = found[winners[0]][0]
    held = lease.holder(journal)
    assert held is not None
    assert (held.name, held.pid, held.epoch) == (winners[0], winner.pid, 1)
    assert held.is_alive(time.time())
    assert lease.take(journal, "too late") is None

    winner.kill()
    psutil.wait_procs([psutil.Process(winner.pid)], timeout=20)  # a zombie of ours, until communicate()
    assert lease.take(journal, "next").epoch == 2  # type: ignore[union-attr]


def test_a_holder_that_ended_in_order_leaves_it_free(journal: Journal) -> None:
    mine = taken(journal)
    lease.give_up(journal, mine)
    held = lease.holder(journal)
    assert held is not None
    assert not held.is_alive(time.time())
    assert taken(journal).epoch == mine.epoch + 1


def test_a_process_holds_it_against_itself_too(journal: Journal) -> None:
    taken(journal)
    assert lease.take(journal, "me, once more") is None


def test_a_reused_pid_is_not_taken_for_the_holder(journal: Journal) -> None:
    mine = taken(journal)
    change(journal, born=mine.born - 3600)  # the row's process had our pid an hour before us
    assert taken(journal, "next").epoch == mine.epoch + 1


def test_a_holder_on_another_host_is_believed_until_it_expires(journal: Journal) -> None:
    taken(journal)
    change(journal, host="elsewhere", pid=1, expires_at=time.time() + 60)
    assert lease.take(journal, "me") is None
    change(journal, expires_at=time.time() - 0.001)
    assert lease.take(journal, "me") is not None


def test_a_silent_but_living_holder_on_this_host_keeps_it(journal: Journal) -> None:
    """A laptop that slept, a process that was stopped: its time-out alone gives nobody the right to a second runner."""
    taken(journal)
    change(journal, expires_at=time.time() - 3600)
    assert lease.take(journal, "me") is None


def test_renewing_says_whether_it_still_stands(journal: Journal) -> None:
    mine = taken(journal)
    before = lease.holder(journal)
    assert lease.renew(journal, mine)
    after = lease.holder(journal)
    assert before is not None
    assert after is not None
    assert before.expires_at <= after.expires_at <= time.time() + lease.TTL_SECONDS
    change(journal, epoch=mine.epoch + 1)
    assert not lease.renew(journal, mine)
    lease.give_up(journal, mine)  # and does nothing to the other's
    still = lease.holder(journal)
    assert still is not None
    assert still.expires_at == after.expires_at


def test_a_lease_that_was_given_up_cannot_be_renewed(journal: Journal) -> None:
    mine = taken(journal)
    lease.give_up(journal, mine)
    assert not lease.renew(journal, mine)


def test_services_have_leases_of_their_own(database: str, open_journal: OpenJournal) -> None:
    shop, till = open_journal(database, "shop"), open_journal(database, "till")
    assert taken(shop).epoch == 1
    assert taken(till).epoch == 1


@pytest.mark.parametrize("is_zombie", [True, False])
def test_a_dead_process_is_not_alive(is_zombie: bool, spawn: Spawn) -> None:
    process = spawn("import sys; sys.stdin.readline()")
    born = psutil.Process(process.pid).create_time()
    holder = lease.Holder(1, "x", os.uname().nodename, process.pid, born, time.time() + 60)
    assert holder.is_alive(time.time())
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if not is_zombie:
        process.wait()
    assert not holder.is_alive(time.time())
    assert not replace(holder, host="elsewhere", expires_at=time.time() - 1).is_alive(time.time())
