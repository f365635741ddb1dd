# SHIM
from indiret.experiments.claims import *  # noqa: F403
from indiret.experiments.claims import TABLE_ROWS as ROWS  # noqa: F401
from indiret.experiments.claims import ClaimVerdict as Verdict  # noqa: F401
from indiret.experiments.claims import judge_claims as judge  # noqa: F401
from indiret.experiments.claims import stored_results_of as stored  # noqa: F401
from indiret.experiments.records import paired_difference as paired  # noqa: F401
from indiret.experiments.records import show_interval as show  # noqa: F401
