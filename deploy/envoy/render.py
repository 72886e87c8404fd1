"""Turn settings into an Envoy configuration: `python -m deploy.envoy.render gateway|egress`.

The two templates are the same in every mode; whatever differs is a field of the settings.
"""

import hashlib
import os
import re
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.envoy import gateway, problems
from deploy.envoy.egress import EgressSettings
from deploy.envoy.endpoints import BaseUrl, ConfigurationRefused, Endpoint, flag
from deploy.envoy.gateway import GatewaySettings, Pool
from shared.settings.refused import EXIT_CODE
from shared.settings.unknown import told, unknown_settings
from shared.tiers import TIERS

__all__ = [
    "BaseUrl",
    "ConfigurationRefused",
    "EgressSettings",
    "Endpoint",
    "GatewaySettings",
    "Pool",
    "main",
    "render_egress",
    "render_gateway",
]

_HERE = Path(__file__).parent


def render_gateway(settings: GatewaySettings) -> str:
    """The gateway's whole configuration, as YAML."""
    page = (_HERE / "docs.html").read_text(encoding="utf-8")
    return _tidied(
        _templates()
        .get_template("gateway.yaml.j2")
        .render(
            settings=settings,
            facts=gateway,
            known_origins="|".join(map(re.escape, settings.cors_origins)),
            replies=problems.GATEWAY_REPLIES,
            token_refused=problems.TOKEN_REFUSED,
            dialects=list(problems.DIALECTS),
            problem_type=problems.TYPE_PREFIX,
            docs_page=page,
            docs_policy=_content_policy(page),
        )
    )


def render_egress(settings: EgressSettings) -> str:
    """The egress proxy's whole configuration, as YAML."""
    return _tidied(
        _templates()
        .get_template("egress.yaml.j2")
        .render(
            settings=settings,
            replies=problems.EGRESS_REPLIES,
            problem_type=problems.TYPE_PREFIX,
        )
    )


def _templates() -> Environment:
    templates = Environment(  # noqa: S701 - YAML; each value is quoted by `tojson`
        loader=FileSystemLoader(_HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.tests["address"] = lambda value: isinstance(value, Endpoint)
    return templates


def _tidied(text: str) -> str:
    """Without the blank lines that macros leave behind: operators read this, too."""
    return re.sub(r"\n(?:[ ]*\n)+", "\n", text).strip() + "\n"


def _content_policy(page: str) -> str:
    """A policy under which the page's own script and style run, and nothing else does."""
    scripts = _hashes(page, "script")
    styles = _hashes(page, "style")
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(page: str, tag: str) -> str:
    bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    digests = (hashlib.sha256(body.encode()).digest() for body in bodies)
    return " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Print one configuration, or write it to a file; what differs is read from the environment."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        match arguments:
            case ["gateway" | "egress" as proxy]:
                sys.stdout.write(_rendered(proxy, environ))
            # For images without a shell, which could redirect what is printed.
            case ["gateway" | "egress" as proxy, "--to", path]:
                _written(Path(path), _rendered(proxy, environ))
            case _:
                print(
                    "usage: python -m deploy.envoy.render gateway|egress [--to FILE]",
                    file=sys.stderr,
                )
                return 2
    except ConfigurationRefused as refused:
        print(f"configuration refused: {refused}", file=sys.stderr)
        return EXIT_CODE
    return 0


def _written(path: Path, text: str) -> None:
    """All at once: a proxy that runs looks whether its file is another one."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _rendered(proxy: str, environ: Mapping[str, str]) -> str:
    _look_for_unknown(environ)
    if proxy == "egress":
        return render_egress(EgressSettings.from_environment(environ))
    names = [tier.name for tier in sorted(TIERS.values(), key=lambda tier: tier.rank)]
    return render_gateway(GatewaySettings.from_environment(environ, names))


def _look_for_unknown(environ: Mapping[str, str]) -> None:
    """Envoy itself reads none of them, so nobody else would tell."""
    unknown = unknown_settings(environ)
    if not unknown:
        return
    if flag(environ, "COMPANION_STRICT_SETTINGS"):
        raise ConfigurationRefused(f"nobody knows the settings {told(unknown)}")
    print(f"unknown settings: {told(unknown)}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
