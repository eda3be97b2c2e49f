interface SimpleUserSchema {
    id?: number;
    name?: string;
    username?: string;
    state?: string;
    avatar_url?: string;
    web_url?: string;
    created_at?: string;
}

interface CondensedNamespaceSchema {
    id?: number;
    name?: string;
    path?: string;
    kind?: string;
    full_path?: string;
    parent_id?: number;
    avatar_url?: string;
    web_url?: string;
}

interface ProjectSchema {
    id?: number;
    web_url?: string;
    name?: string;
    path?: string;
    description?: string;
    name_with_namespace?: string;
    path_with_namespace?: string;
    created_at?: string;
    default_branch?: string;
    topics?: string[];
    ssh_url_to_repo?: string;
    http_url_to_repo?: string;
    readme_url?: string;
    forks_count?: number;
    avatar_url?: string;
    star_count?: number;
    last_activity_at?: string;
    namespace?: CondensedNamespaceSchema;
    description_html?: string;
    visibility?: 'public' | 'internal' | 'private';
    merge_requests_template?: string;
    empty_repo?: boolean;
    issues_template?: string;
    owner?: SimpleUserSchema;
    issues_enabled?: boolean;
    open_issues_count?: number;
    merge_requests_enabled?: boolean;
    jobs_enabled?: boolean;
    wiki_enabled?: boolean;
    snippets_enabled?: boolean;
    can_create_merge_request_in?: boolean;
    resolve_outdated_diff_discussions?: boolean;
    container_registry_access_level?: string;
    security_and_compliance_access_level?: string;
    updated_at?: string;
    creator_id?: number;
    import_url?: string;
    import_type?: string;
    import_status?: string;
    import_error?: string;
    archived?: boolean;
    license_url?: string;
    license?: ProjectLicenseSchema;
    shared_runners_enabled?: boolean;
    group_runners_enabled?: boolean;
    runners_token?: string;
    ci_default_git_depth?: number;
    ci_forward_deployment_enabled?: boolean;
    ci_forward_deployment_rollback_allowed?: boolean;
    ci_allow_fork_pipelines_to_run_in_parent_project?: boolean;
    ci_separated_caches?: boolean;
    ci_restrict_pipeline_cancellation_role?: string;
    public_jobs?: boolean;
    repository_storage?: string;
    only_allow_merge_if_pipeline_succeeds?: boolean;
    allow_merge_on_skipped_pipeline?: boolean;
    ci_pipeline_variables_minimum_override_role?: boolean;
    only_allow_merge_if_all_discussions_are_resolved?: boolean;
    remove_source_branch_after_merge?: boolean;
    printing_merge_requests_link_enabled?: boolean;
    request_access_enabled?: boolean;
    merge_method?: string;
    squash_option?: string;
    auto_devops_enabled?: boolean;
    auto_devops_deploy_strategy?: string;
    mirror?: boolean;
    mirror_user_id?: number;
    mirror_trigger_builds?: boolean;
    only_mirror_protected_branches?: boolean;
    mirror_overwrites_diverged_branches?: boolean;
    external_authorization_classification_label?: string;
    packages_enabled?: boolean;
    service_desk_enabled?: boolean;
    service_desk_address?: string;
    autoclose_referenced_issues?: boolean;
    suggestion_commit_message?: string;
    enforce_auth_checks_on_uploads?: boolean;
    merge_commit_template?: string;
    squash_commit_template?: string;
    issue_branch_template?: string;
    marked_for_deletion_on?: string;
    compliance_frameworks?: string[];
    warn_about_potentially_unwanted_characters?: boolean;
    container_registry_image_prefix?: string;
    container_expiration_policy?: object;
    permissions?: object;
    shared_with_groups?: object;
    _links?: object;
}

interface MergeRequestSchema {
    id?: number;
    iid?: number;
    project_id?: number;
    title?: string;
    description?: string;
    state?: string;
    created_at?: string;
    updated_at?: string;
    web_url?: string;
    merged_by?: SimpleUserSchema;
    merged_at?: string;
    closed_by?: SimpleUserSchema;
    closed_at?: string;
    target_branch?: string;
    source_branch?: string;
    user_notes_count?: number;
    upvotes?: number;
    downvotes?: number;
    author?: SimpleUserSchema;
    assignees?: SimpleUserSchema[];
    assignee?: SimpleUserSchema;
    reviewers?: SimpleUserSchema[];
    source_project_id?: number;
    target_project_id?: number;
    labels?: string[];
    draft?: boolean;
    work_in_progress?: boolean;
    milestone?: MilestoneSchema;
    merge_when_pipeline_succeeds?: boolean;
    merge_status?: 'unchecked' | 'checking' | 'can_be_merged' | 'cannot_be_merged' | 'cannot_be_merged_recheck';
    detailed_merge_status?: 'blocked_status' | 'broken_status' | 'checking' | 'unchecked' | 'ci_must_pass' | 'ci_still_running' | 'discussions_not_resolved' | 'draft_status' | 'external_status_checks' | 'mergeable' | 'not_approved' | 'not_open' | 'policies_denied' | 'jira_association_missing';
    sha?: string;
    merge_commit_sha?: string;
    squash_commit_sha?: string;
    discussion_locked?: boolean;
    should_remove_source_branch?: boolean;
    force_remove_source_branch?: boolean;
    reference?: string;
    references?: ReferenceSchema;
    time_stats?: TimeStatsSchema;
    squash?: boolean;
    task_completion_status?: TaskCompletionStatusSchema;
    prepared_at?: string;
    has_conflicts?: boolean;
    blocking_discussions_resolved?: boolean;
    approvals_before_merge?: number;
}

interface NoteSchema {
    id?: number;
    body?: string;
    attachment?: string;
    author?: SimpleUserSchema;
    created_at?: string;
    updated_at?: string;
    system?: boolean;
    noteable_id?: number;
    noteable_type?: 'Issue' | 'Snippet' | 'Epic' | 'Commit' | 'MergeRequest';
    noteable_iid?: number;
    project_id?: number;
    resolvable?: boolean;
}

interface AwardEmojiSchema {
    id?: number;
    name?: string;
    user?: SimpleUserSchema;
    created_at?: string;
    updated_at?: string;
    awardable_id?: number;
    awardable_type?: string;
}

interface CommitStatusSchema {
    status?: CommitablePipelineStatus;
    created_at?: string;
    started_at?: string;
    name?: string;
    allow_failure?: boolean;
    author?: SimpleUserSchema;
    description?: string;
    sha?: string;
    target_url?: string;
    finished_at?: string;
    id?: number;
    ref?: string;
}

interface MemberSchema {
    id?: number;
    username?: string;
    name?: string;
    state?: string;
    avatar_url?: string;
    web_url?: string;
    expires_at?: string;
    access_level?: Exclude<AccessLevel, AccessLevel.ADMIN>;
    email?: string;
    group_saml_identity?: object;
}

interface BranchSchema {
    name?: string;
    merged?: boolean;
    protected?: boolean;
    default?: boolean;
    developers_can_push?: boolean;
    developers_can_merge?: boolean;
    can_push?: boolean;
    web_url?: string;
    commit?: CommitSchema;
}

interface ExpandedHookSchema {
    id?: number;
    url?: string;
    created_at?: string;
    push_events?: boolean;
    tag_push_events?: boolean;
    merge_requests_events?: boolean;
    repository_update_events?: boolean;
    enable_ssl_verification?: boolean;
    push_events_branch_filter?: string;
    issues_events?: boolean;
    confidential_issues_events?: boolean;
    note_events?: boolean;
    confidential_note_events?: boolean;
    job_events?: boolean;
    pipeline_events?: boolean;
    wiki_page_events?: boolean;
    deployment_events?: boolean;
    releases_events?: boolean;
    alert_status?: string;
    disabled_until?: string;
    url_variables?: string[];
}
