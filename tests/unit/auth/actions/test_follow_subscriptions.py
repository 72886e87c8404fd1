"""Tiers follow subscriptions, in whatever order the news arrives."""

from services.auth.actions.follow_subscriptions import FollowSubscriptions
from services.auth.domain.user import User
from shared.events import Fact
from shared.events.subscription import SubscriptionChanged
from tests.support.auth import Memory, StoppedClock, a_user

ada, grace = a_user("ada"), a_user("grace")


def changed(user: User, tier: str, revision: int) -> Fact[SubscriptionChanged]:
    event = SubscriptionChanged(user_id=user.id, tier_name=tier, revision=revision)
    return Fact(event=event, subject=user.id, tier=tier)


async def told(*batches: list[Fact[SubscriptionChanged]]) -> dict[str, tuple[str, int]]:
    memory = Memory().keep(ada, grace)
    for batch in batches:
        await FollowSubscriptions(memory.work, StoppedClock())(batch)
    return {u.username.text: (u.tier, u.tier_revision) for u in memory.accounts.values()}


async def test_a_change_is_taken_over() -> None:
    assert await told([changed(ada, "pro", 1)]) == {"ada": ("pro", 1), "grace": ("free", 0)}


async def test_the_same_fact_twice_is_one() -> None:
    fact = changed(ada, "pro", 1)
    assert (await told([fact, fact], [fact]))["ada"] == ("pro", 1)


async def test_an_older_revision_changes_nothing() -> None:
    newer, older = changed(ada, "free", 3), changed(ada, "pro", 2)
    for batches in ([[newer], [older]], [[older], [newer]], [[newer, older]], [[older, newer]]):
        assert (await told(*batches))["ada"] == ("free", 3)


async def test_a_batch_about_many_users_reaches_each() -> None:
    facts = [changed(ada, "pro", 1), changed(grace, "enterprise", 4), changed(ada, "free", 2)]
    assert await told(facts) == {"ada": ("free", 2), "grace": ("enterprise", 4)}


async def test_news_about_an_unknown_user_is_borne() -> None:
    assert (await told([changed(a_user("unknown"), "pro", 1)]))["ada"] == ("free", 0)
