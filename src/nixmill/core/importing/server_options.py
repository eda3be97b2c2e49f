"""The options of buildbot-nix' and nixbot's servers: of their NixOS modules, and of the JSON that the modules make.

Source: nix-community/buildbot-nix 9a8ea9a47 (`nixosModules/master.nix`, `cachix.nix`, `niks3.nix`,
`buildbot_nix/models.py`), Mic92/nixbot 06d86fac4 (`nixosModules/nixbot.nix`, `nixbot/config.py`).
An option without a sentence is carried over by `nixmill.core.importing.server`, or matters to its own system only.
"""

from typing import Final

from nixmill.core.importing.options import Kind, Option

TOPIC: Final = "build-with-buildbot"
_NO_EFFECTS: Final = "nixmill runs no effects of hercules-ci."
_HOOKS: Final = "What should happen after a build can be a [[hook]] of the server (docs/notifications.md)."
_NO_KEY: Final = "repositories of a forge are fetched by https with the forge's own token."
_BUILDERS: Final = "nixmill builds where Nix builds: on this machine, and on the builders Nix is configured for."
_NO_UPLOAD: Final = "caches are tables of the server's settings, with keys of their own."
_UPLOAD: Final = (
    "Write a [[cache]] table: kind `disk` or `s3` for a cache of nixmill's own, `copy` for one that `nix copy` fills,"
    " `command` for Cachix, Attic and niks3 (docs/caches.md)."
)
_SYSTEMS: Final = "nixmill checks the systems that its machines can build."
_FEWER_SYSTEMS: Final = "For fewer, write `systems` in nixmill.toml or in a jobset."
_OWN_DATABASE: Final = (
    "nixmill has a database of its own and does not read this one; earlier builds and logs stay there."
)
_DATABASE: Final = "For PostgreSQL write `database`; without it nixmill uses SQLite in its directory."


def _filters(forge: str) -> tuple[Option, ...]:
    return (
        Option(f"{forge}.topic", Kind.TEXT, generated=f"{forge}.filters.topic"),
        Option(f"{forge}.userAllowlist", Kind.TEXTS, generated=f"{forge}.filters.user_allowlist"),
        Option(f"{forge}.repoAllowlist", Kind.TEXTS, generated=f"{forge}.filters.repo_allowlist"),
        Option(f"{forge}.oauthId", Kind.TEXT, generated=f"{forge}.oauth_id"),
        Option(f"{forge}.oauthSecretFile", Kind.TEXT, generated=f"{forge}.oauth_secret_file"),
        Option(f"{forge}.enable", Kind.FLAG),
    )


def _with_token(forge: str) -> tuple[Option, ...]:
    return (
        *_filters(forge),
        Option(f"{forge}.instanceUrl", Kind.TEXT, generated=f"{forge}.instance_url"),
        Option(f"{forge}.tokenFile", Kind.TEXT, generated=f"{forge}.token_file"),
        Option(f"{forge}.sshPrivateKeyFile", Kind.TEXT, None, _NO_KEY, generated=f"{forge}.ssh_private_key_file"),
        Option(f"{forge}.sshKnownHostsFile", Kind.TEXT, None, _NO_KEY, generated=f"{forge}.ssh_known_hosts_file"),
    )


_GITHUB: Final = (
    *_filters("github"),
    Option("github.appId", Kind.NUMBER, generated="github.id"),
    Option("github.appSecretKeyFile", Kind.TEXT, generated="github.secret_key_file"),
    Option("github.webhookSecretFile", Kind.TEXT, generated="github.webhook_secret_file"),
)
_POLLED: Final = (
    Option("pullBased.repositories.*.url", Kind.TEXT, generated="pull_based.repositories.*.url"),
    Option("pullBased.repositories.*.defaultBranch", Kind.TEXT, generated="pull_based.repositories.*.default_branch"),
    Option("pullBased.repositories.*.pollInterval", Kind.NUMBER, generated="pull_based.repositories.*.poll_interval"),
    Option(
        "pullBased.repositories.*.sshPrivateKeyFile",
        Kind.TEXT,
        generated="pull_based.repositories.*.ssh_private_key_file",
    ),
    Option(
        "pullBased.repositories.*.sshKnownHostsFile",
        Kind.TEXT,
        None,
        "nixmill keeps the keys of ssh hosts itself, at first sight.",
        "Compare them after the first fetch: they are in git/known_hosts of its directory.",
        generated="pull_based.repositories.*.ssh_known_hosts_file",
    ),
    Option("pullBased.repositories.*.name", Kind.TEXT, generated="pull_based.repositories.*.name"),
    Option("pullBased.pollInterval", Kind.NUMBER),
    Option(
        "pullBased.pollSpread",
        Kind.NUMBER,
        None,
        "nixmill spreads its looks at remotes by itself.",
        generated="pull_based.poll_spread",
    ),
    Option("pullBased.sshPrivateKeyFile", Kind.TEXT),
    Option("pullBased.sshKnownHostsFile", Kind.TEXT),
)
_OIDC: Final = (
    Option("oidc.enable", Kind.FLAG),
    Option("oidc.name", Kind.TEXT, generated="oidc.name"),
    Option("oidc.discoveryUrl", Kind.TEXT, generated="oidc.discovery_url"),
    Option("oidc.clientId", Kind.TEXT, generated="oidc.client_id"),
    Option("oidc.clientSecretFile", Kind.TEXT, generated="oidc.client_secret_file"),
    Option("oidc.scope", Kind.TEXTS, generated="oidc.scope"),
    Option("oidc.mapping.username", Kind.TEXT, generated="oidc.mapping.username"),
    Option(
        "oidc.mapping.groups",
        Kind.TEXT,
        None,
        "nixmill reads no groups from a provider.",
        "Make people members of projects, or name administrators by subject in `admins`.",
        generated="oidc.mapping.groups",
    ),
    Option("oidc.mapping.email", Kind.TEXT, generated="oidc.mapping.email"),
    Option("oidc.mapping.full_name", Kind.TEXT, generated="oidc.mapping.full_name"),
)
_EFFECTS: Final = (
    Option(
        "effects.perRepoSecretFiles.*", Kind.TEXT, None, _NO_EFFECTS, _HOOKS, generated="effects_per_repo_secrets.*"
    ),
    Option("effects.extraSandboxPaths", Kind.TEXTS, None, _NO_EFFECTS, generated="effects_extra_sandbox_paths"),
)
_COMMON: Final = (
    Option("enable", Kind.FLAG),
    Option("admins", Kind.TEXTS, generated="admins"),
    Option("buildSystems", Kind.TEXTS, None, _SYSTEMS, _FEWER_SYSTEMS, generated="build_systems"),
    Option("evalMaxMemorySize", Kind.NUMBER, 2048, generated="eval_max_memory_size"),
    Option(
        "evalWorkerCount",
        Kind.NUMBER,
        None,
        "the server's settings have no number of evaluators; a repository's have.",
        "Write `workers` into [evaluate] of nixmill.toml where it matters.",
        generated="eval_worker_count",
    ),
    Option(
        "showTrace",
        Kind.FLAG,
        None,
        "evaluation errors are shown with their own position; traces are not switched on for all.",
        "Evaluate by hand with `nix eval --show-trace` where more is needed.",
        generated="show_trace_on_failure",
    ),
    Option("buildMaxSilentTime", Kind.NUMBER, 1200, generated="build_max_silent_time"),
    Option("buildTimeout", Kind.NUMBER, 10_800, generated="build_timeout"),
    Option("cacheFailedBuilds", Kind.FLAG, None, generated="cache_failed_builds"),
    Option(
        "allowUnauthenticatedControl",
        Kind.FLAG,
        None,
        "in nixmill nobody acts without an account.",
        "Make accounts: nixmill user create NAME",
        generated="allow_unauthenticated_control",
    ),
    Option(
        "outputsPath",
        Kind.TEXT,
        None,
        "nixmill writes no files with the newest store paths.",
        "Have a [[hook]] on `succeeded` write them: NIXMILL_JSON names a file with attribute, ref and paths.",
        generated="outputs_path",
    ),
    Option(
        "failedBuildReportLimit",
        Kind.NUMBER,
        47,
        "nixmill posts one status for a commit and at most ten for failing attributes.",
        generated="failed_build_report_limit",
    ),
    Option("postBuildSteps", Kind.TABLES, generated="post_build_steps"),
    Option("branches.*.matchGlob", Kind.TEXT, generated="branches.*.matchGlob"),
    Option(
        "branches.*.registerGCRoots",
        Kind.FLAG,
        default=True,
        lost="what a trusted push built is kept by nixmill's own rules of retention, not branch by branch.",
        instead="See [retention] in the server's settings.",
        generated="branches.*.registerGCRoots",
    ),
    Option(
        "branches.*.updateOutputs",
        Kind.FLAG,
        None,
        "nixmill writes no files with the newest store paths.",
        generated="branches.*.updateOutputs",
    ),
    Option("cachix.enable", Kind.FLAG, None, _NO_UPLOAD, _UPLOAD),
    Option("cachix.name", Kind.TEXT),
    Option("cachix.auth", Kind.ANYTHING),
    Option("cachix.signingKeyFile", Kind.TEXT),
    Option("cachix.authTokenFile", Kind.TEXT),
    Option("niks3.enable", Kind.FLAG, None, _NO_UPLOAD, _UPLOAD),
    Option("niks3.serverUrl", Kind.TEXT),
    Option("niks3.authTokenFile", Kind.TEXT),
    Option("niks3.package", Kind.ANYTHING),
)

BUILDBOT_NIX: Final = (
    *_COMMON,
    *_GITHUB,
    *_with_token("gitea"),
    Option("gitea.webhookSecretFile", Kind.TEXT, generated="gitea.webhook_secret_file"),
    *_POLLED,
    *_OIDC,
    *_EFFECTS,
    Option("domain", Kind.TEXT, generated="domain"),
    Option("webhookBaseUrl", Kind.TEXT, generated="url"),
    Option("useHTTPS", Kind.FLAG, generated="use_https"),
    Option("enableNginx", Kind.FLAG),
    Option("authBackend", Kind.TEXT, generated="auth_backend"),
    Option("dbUrl", Kind.TEXT, "postgresql://@/buildbot", _OWN_DATABASE, _DATABASE, generated="db_url"),
    Option(
        "httpBasicAuthPasswordFile",
        Kind.TEXT,
        "http-basic-auth-password",  # the module always writes this into its JSON
        "nixmill signs people in itself and believes no proxy about who somebody is.",
        "Use a forge's sign-in, [[oidc]], or passwords.",
        generated="http_basic_auth_password_file",
    ),
    Option("accessMode.fullyPrivate", Kind.ANYTHING),
    Option("accessMode.public", Kind.ANYTHING),
    Option("workersFile", Kind.TEXT, None, _BUILDERS, "Add the workers to /etc/nix/machines, or to `builders`."),
    Option("nix_workers_secret_file", Kind.TEXT, generated="nix_workers_secret_file"),
    Option(
        "localWorkers",
        Kind.NUMBER,
        None,
        _BUILDERS,
        "How many builds run at once is Nix's own max-jobs.",
        generated="local_workers",
    ),
    Option("gcroots_user", Kind.TEXT, generated="gcroots_user"),
    *(
        Option(name, Kind.TEXT, generated=name)
        for name in (
            "github.installation_token_map_file",
            "github.project_id_map_file",
            "github.jwt_token_map",
            "github.project_cache_file",
            "gitea.project_cache_file",
        )
    ),
)
NIXBOT: Final = (
    *_COMMON,
    *_GITHUB,
    Option("github.apiUrl", Kind.TEXT, "https://api.github.com", generated="github.api_url"),
    Option("github.oauthPrivateRepoScope", Kind.FLAG, generated="github.oauth_private_repo_scope"),
    *_with_token("gitea"),
    *_with_token("gitlab"),
    *_POLLED,
    *_OIDC,
    *_EFFECTS,
    Option("effects.mountables", Kind.ANYTHING, None, _NO_EFFECTS, generated="effects_mountables_file"),
    Option("effects.extraNixOptions", Kind.ANYTHING, None, _NO_EFFECTS, generated="effects_extra_nix_options"),
    *(
        Option(f"workloadIdentity.{name}", Kind.ANYTHING, generated=f"workload_identity.{generated}")
        for name, generated in (
            ("enable", "enable"),
            ("tokenTtl", "token_ttl"),
            ("keyRotationDays", "key_rotation_days"),
        )
    ),
    Option(
        "workloadIdentity.signingKeyFile",
        Kind.TEXT,
        None,
        "nixmill hands out no identity tokens to jobs.",
        generated="workload_identity.signing_key_file",
    ),
    Option("domain", Kind.TEXT),
    Option("url", Kind.TEXT, generated="url"),
    Option("webhookBaseUrl", Kind.TEXT, generated="webhook_base_url"),
    Option("useHTTPS", Kind.FLAG),
    Option("port", Kind.NUMBER, generated="http_port"),
    Option("nginx.enable", Kind.FLAG),
    Option("nginx.enableACME", Kind.FLAG),
    Option("statusContextPrefix", Kind.TEXT, "nixbot", generated="status_context_prefix"),
    Option("evalSystems", Kind.TEXTS, None, _SYSTEMS, _FEWER_SYSTEMS, generated="eval_systems"),
    Option(
        "legacyAttrPrefix",
        Kind.FLAG,
        None,
        "names of attributes in nixmill are those of the flake.",
        "Require the one status of the commit, not those of attributes.",
        generated="legacy_attr_prefix",
    ),
    Option(
        "privateRepoViewers.*",
        Kind.TEXTS,
        None,
        "rights on private projects are not read from settings.",
        'Give these people a role in the project: [project.members] in the projects file, such as anna = "viewer".',
        generated="private_repo_viewers.*",
    ),
    Option(
        "proxyAuthHeader",
        Kind.TEXT,
        None,
        "nixmill believes no proxy about who somebody is.",
        "Use a forge's sign-in, [[oidc]], or passwords.",
        generated="proxy_auth_header",
    ),
    Option(
        "buildConcurrency",
        Kind.NUMBER,
        None,
        "how many builds run at once is Nix's own max-jobs, and that of each builder.",
        generated="build_concurrency",
    ),
    Option("evalConcurrency", Kind.NUMBER, 1, generated="eval_concurrency"),
    Option("evalTimeout", Kind.NUMBER, 3600, generated="eval_timeout"),
    Option("logSizeLimit", Kind.NUMBER, 64 * 1024 * 1024, generated="log_size_limit"),
    Option("retentionDays", Kind.NUMBER, 90, generated="retention_days"),
    Option(
        "sessionLifetime",
        Kind.NUMBER,
        2_592_000,
        "how long a sign-in lasts is no setting of nixmill.",
        generated="session_lifetime",
    ),
    Option("repoAclCacheTtl", Kind.NUMBER, generated="repo_acl_cache_ttl"),
    Option("stateDir", Kind.TEXT, generated="state_dir"),
    Option("gcrootsDir", Kind.TEXT, generated="gcroots_dir"),
    Option("httpUnixSocket", Kind.TEXT, generated="http_unix_socket"),
    Option("httpListen", Kind.FLAG, generated="http_listen"),
    Option("database.createLocally", Kind.FLAG),
    Option("database.url", Kind.TEXT, None, _OWN_DATABASE, _DATABASE),
    Option("database.urlFile", Kind.TEXT, None, _OWN_DATABASE, _DATABASE),
    Option("dbUrl", Kind.TEXT, None, generated="db_url"),
    Option("dbUrlFile", Kind.TEXT, None, generated="db_url_file"),
)
