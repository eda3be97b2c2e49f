interface User {
    active?: boolean;
    avatar_url?: string;
    created?: string;
    description?: string;
    email?: string;
    followers_count?: number;
    following_count?: number;
    full_name?: string;
    html_url?: string;
    id?: number;
    is_admin?: boolean;
    language?: string;
    last_login?: string;
    location?: string;
    login?: string;
    login_name?: string;
    prohibit_login?: boolean;
    pronouns?: string;
    restricted?: boolean;
    source_id?: number;
    starred_repos_count?: number;
    visibility?: string;
    website?: string;
}

interface Repository {
    allow_fast_forward_only_merge?: boolean;
    allow_merge_commits?: boolean;
    allow_rebase?: boolean;
    allow_rebase_explicit?: boolean;
    allow_rebase_update?: boolean;
    allow_squash_merge?: boolean;
    archived?: boolean;
    archived_at?: string;
    avatar_url?: string;
    clone_url?: string;
    created_at?: string;
    default_allow_maintainer_edit?: boolean;
    default_branch?: string;
    default_delete_branch_after_merge?: boolean;
    default_merge_style?: string;
    default_update_style?: string;
    description?: string;
    empty?: boolean;
    external_tracker?: ExternalTracker;
    external_wiki?: ExternalWiki;
    fork?: boolean;
    forks_count?: number;
    full_name?: string;
    globally_editable_wiki?: boolean;
    has_actions?: boolean;
    has_issues?: boolean;
    has_packages?: boolean;
    has_projects?: boolean;
    has_pull_requests?: boolean;
    has_releases?: boolean;
    has_wiki?: boolean;
    html_url?: string;
    id?: number;
    ignore_whitespace_conflicts?: boolean;
    internal?: boolean;
    internal_tracker?: InternalTracker;
    language?: string;
    languages_url?: string;
    link?: string;
    mirror?: boolean;
    mirror_interval?: string;
    mirror_updated?: string;
    name?: string;
    object_format_name?: 'sha1' | 'sha256';
    open_issues_count?: number;
    open_pr_counter?: number;
    original_url?: string;
    owner?: User;
    parent?: Repository;
    permissions?: Permission;
    private?: boolean;
    release_counter?: number;
    repo_transfer?: RepoTransfer;
    size?: number;
    ssh_url?: string;
    stars_count?: number;
    template?: boolean;
    topics?: string[];
    updated_at?: string;
    url?: string;
    watchers_count?: number;
    website?: string;
    wiki_branch?: string;
}

interface Permission {
    admin?: boolean;
    pull?: boolean;
    push?: boolean;
}

interface PullRequest {
    additions?: number;
    allow_maintainer_edit?: boolean;
    assignee?: User;
    assignees?: User[];
    base?: PRBranchInfo;
    body?: string;
    changed_files?: number;
    closed_at?: string;
    comments?: number;
    created_at?: string;
    deletions?: number;
    diff_url?: string;
    draft?: boolean;
    due_date?: string;
    flow?: number;
    head?: PRBranchInfo;
    html_url?: string;
    id?: number;
    is_locked?: boolean;
    labels?: Label[];
    merge_base?: string;
    merge_commit_sha?: string;
    mergeable?: boolean;
    merged?: boolean;
    merged_at?: string;
    merged_by?: User;
    milestone?: Milestone;
    number?: number;
    patch_url?: string;
    pin_order?: number;
    requested_reviewers?: User[];
    requested_reviewers_teams?: Team[];
    review_comments?: number;
    state?: StateType;
    title?: string;
    updated_at?: string;
    url?: string;
    user?: User;
}

interface PRBranchInfo {
    label?: string;
    ref?: string;
    repo?: Repository;
    repo_id?: number;
    sha?: string;
}

interface Label {
    color?: string;
    description?: string;
    exclusive?: boolean;
    id?: number;
    is_archived?: boolean;
    name?: string;
    url?: string;
}

interface Comment {
    assets?: Attachment[];
    body?: string;
    created_at?: string;
    html_url?: string;
    id?: number;
    issue_url?: string;
    original_author?: string;
    original_author_id?: number;
    pull_request_url?: string;
    updated_at?: string;
    user?: User;
}

interface CommitStatus {
    context?: string;
    created_at?: string;
    creator?: User;
    description?: string;
    id?: number;
    status?: CommitStatusState;
    target_url?: string;
    updated_at?: string;
    url?: string;
}

interface CombinedStatus {
    commit_url?: string;
    repository?: Repository;
    sha?: string;
    state?: CommitStatusState;
    statuses?: CommitStatus[];
    total_count?: number;
    url?: string;
}

interface CreateStatusOption {
    context?: string;
    description?: string;
    state?: CommitStatusState;
    target_url?: string;
}

interface Hook {
    active?: boolean;
    authorization_header?: string;
    branch_filter?: string;
    config?: Record<string, string>;
    content_type?: string;
    created_at?: string;
    events?: string[];
    id?: number;
    metadata?: any;
    type?: string;
    updated_at?: string;
    url?: string;
}

interface CreateHookOption {
    active?: boolean;
    authorization_header?: string;
    branch_filter?: string;
    config: CreateHookOptionConfig;
    events?: string[];
    type: 'forgejo' | 'dingtalk' | 'discord' | 'gitea' | 'gogs' | 'msteams' | 'slack' | 'telegram' | 'feishu' | 'wechatwork' | 'packagist';
}

type CreateHookOptionConfig = Record<string, string>;
interface CreateIssueCommentOption {
    body: string;
    updated_at?: string;
}

interface EditHookOption {
    active?: boolean;
    authorization_header?: string;
    branch_filter?: string;
    config?: Record<string, string>;
    events?: string[];
}

interface RepoCollaboratorPermission {
    permission?: string;
    role_name?: string;
    user?: User;
}

interface TopicName {
    topics?: string[];
}

interface Branch {
    commit?: PayloadCommit;
    effective_branch_protection_name?: string;
    enable_status_check?: boolean;
    name?: string;
    protected?: boolean;
    required_approvals?: number;
    status_check_contexts?: string[];
    user_can_merge?: boolean;
    user_can_push?: boolean;
}

interface CreateIssueCommentOption {
    body: string;
    updated_at?: string;
}

interface EditReactionOption {
    content?: string;
}

interface Reaction {
    content?: string;
    created_at?: string;
    user?: User;
}
