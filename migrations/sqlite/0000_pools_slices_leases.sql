CREATE TABLE `epochs` (
	`number` integer PRIMARY KEY NOT NULL,
	`id` text NOT NULL,
	`cause` text NOT NULL,
	`detail` text NOT NULL,
	`after_revision` integer NOT NULL,
	`from_revision` integer NOT NULL,
	`began_at` integer NOT NULL,
	`confirmed_at` integer,
	`confirmed_by` text,
	`revision` integer NOT NULL,
	CONSTRAINT "epochs_from" CHECK(after_revision < from_revision)
);
--> statement-breakpoint
CREATE UNIQUE INDEX `epochs_id` ON `epochs` (`id`);--> statement-breakpoint
CREATE TABLE `events` (
	`revision` integer PRIMARY KEY NOT NULL,
	`at` integer NOT NULL,
	`machine` text,
	`steering` integer,
	`body` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `events_machine` ON `events` (`machine`,`revision`);--> statement-breakpoint
CREATE INDEX `events_steering` ON `events` (`revision`) WHERE steering = 1;--> statement-breakpoint
CREATE TABLE `extents` (
	`slice` integer NOT NULL,
	`protocol` text NOT NULL,
	`first_port` integer NOT NULL,
	`last_port` integer NOT NULL,
	`machine` text NOT NULL,
	`pool` text NOT NULL,
	`family` integer NOT NULL,
	`state` text NOT NULL,
	`allocator` text NOT NULL,
	`offered` integer NOT NULL,
	`fit` integer NOT NULL,
	`rested_since` integer NOT NULL,
	`reusable_at` integer,
	`blocked_since` integer,
	`blocked_reason` text,
	PRIMARY KEY(`slice`, `protocol`, `first_port`),
	CONSTRAINT "extents_ports" CHECK(0 <= first_port AND first_port <= last_port AND last_port <= 65535),
	CONSTRAINT "extents_state" CHECK(state IN ('free', 'blocked', 'cooling') AND (offered = 0 OR (state = 'free' AND allocator = 'server')))
);
--> statement-breakpoint
CREATE INDEX `extents_offered` ON `extents` (`machine`,`protocol`,`pool`,`family`,`fit`,`rested_since`,`slice`,`first_port`) WHERE offered = 1;--> statement-breakpoint
CREATE INDEX `extents_cooling` ON `extents` (`reusable_at`) WHERE state = 'cooling';--> statement-breakpoint
CREATE INDEX `extents_next_rest` ON `extents` (`machine`,`protocol`,`reusable_at`) WHERE state = 'cooling';--> statement-breakpoint
CREATE INDEX `extents_blocked` ON `extents` (`machine`) WHERE state = 'blocked';--> statement-breakpoint
CREATE TABLE `held_ports` (
	`machine` text NOT NULL,
	`holder` text NOT NULL,
	`protocol` text NOT NULL,
	`ports` integer NOT NULL,
	PRIMARY KEY(`machine`, `holder`, `protocol`)
);
--> statement-breakpoint
CREATE TABLE `history` (
	`id` integer PRIMARY KEY NOT NULL,
	`complete_since` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `holders` (
	`machine` text NOT NULL,
	`name` text NOT NULL,
	`kind` text NOT NULL,
	`uid` integer,
	`cgroup` text,
	`limits` text,
	`sticky_v4` text,
	`sticky_v6` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`revision` integer NOT NULL,
	PRIMARY KEY(`machine`, `name`),
	FOREIGN KEY (`machine`) REFERENCES `machines`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE INDEX `holders_uid` ON `holders` (`machine`,`uid`) WHERE uid IS NOT NULL;--> statement-breakpoint
CREATE INDEX `holders_cgroup` ON `holders` (`machine`) WHERE cgroup IS NOT NULL;--> statement-breakpoint
CREATE INDEX `holders_limited` ON `holders` (`machine`) WHERE limits IS NOT NULL;--> statement-breakpoint
CREATE TABLE `leases` (
	`id` integer PRIMARY KEY NOT NULL,
	`slice` integer NOT NULL,
	`generation` integer NOT NULL,
	`epoch` integer NOT NULL,
	`session` integer,
	`unit` text,
	`machine` text NOT NULL,
	`holder` text NOT NULL,
	`pool` text NOT NULL,
	`address` text NOT NULL,
	`protocol` text NOT NULL,
	`first_port` integer NOT NULL,
	`last_port` integer NOT NULL,
	`mode` text NOT NULL,
	`binding` text,
	`state` text NOT NULL,
	`ending` text,
	`refusal_errno` text,
	`refusal_detail` text,
	`reason` text,
	`forced` integer,
	`granted_at` integer NOT NULL,
	`active_at` integer,
	`ending_at` integer,
	`empty_at` integer,
	`reusable_at` integer,
	`ended_at` integer,
	`revision` integer NOT NULL,
	CONSTRAINT "leases_ports" CHECK(0 <= first_port AND first_port <= last_port AND last_port <= 65535),
	CONSTRAINT "leases_state" CHECK(state IN ('pending', 'active', 'refused', 'ending', 'cooling', 'ended')),
	CONSTRAINT "leases_over" CHECK((ended_at IS NOT NULL) = (state IN ('refused', 'ended'))),
	CONSTRAINT "leases_shared" CHECK((binding IS NOT NULL) = (mode = 'shared') AND (mode = 'exclusive' OR protocol = 'tcp'))
);
--> statement-breakpoint
CREATE UNIQUE INDEX `leases_live` ON `leases` (`slice`,`protocol`,`first_port`,CASE WHEN mode = 'shared' AND state <> 'cooling' THEN holder ELSE '' END) WHERE ended_at IS NULL;--> statement-breakpoint
CREATE INDEX `leases_machine` ON `leases` (`machine`,`id`) WHERE ended_at IS NULL;--> statement-breakpoint
CREATE INDEX `leases_machine_past` ON `leases` (`machine`,`id`) WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `leases_settled` ON `leases` (`session`,`id`) WHERE state NOT IN ('pending', 'active');--> statement-breakpoint
CREATE INDEX `leases_unsettled` ON `leases` (`session`,`id`) WHERE state IN ('pending', 'active');--> statement-breakpoint
CREATE INDEX `leases_reserved` ON `leases` (`id`) WHERE session IS NULL;--> statement-breakpoint
CREATE INDEX `leases_of_holder` ON `leases` (`machine`,`holder`,`id`) WHERE (state = 'ending' OR (session IS NULL AND state IN ('pending', 'active')));--> statement-breakpoint
CREATE INDEX `leases_cooling` ON `leases` (`reusable_at`) WHERE state = 'cooling';--> statement-breakpoint
CREATE INDEX `leases_ending` ON `leases` (`machine`,`ending_at`) WHERE state = 'ending';--> statement-breakpoint
CREATE INDEX `leases_next_rest` ON `leases` (`machine`,`protocol`,`reusable_at`) WHERE state = 'cooling';--> statement-breakpoint
CREATE INDEX `leases_past` ON `leases` (`slice`,`protocol`,`first_port`,CASE WHEN mode = 'shared' THEN holder ELSE '' END,`ended_at`) WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `leases_holder_past` ON `leases` (`machine`,`holder`,CASE WHEN ended_at - granted_at <= 60000000 THEN 0 WHEN ended_at - granted_at <= 480000000 THEN 1 WHEN ended_at - granted_at <= 3600000000 THEN 2 WHEN ended_at - granted_at <= 28800000000 THEN 3 WHEN ended_at - granted_at <= 230400000000 THEN 4 WHEN ended_at - granted_at <= 1843200000000 THEN 5 ELSE 6 END,`granted_at`,`ended_at`) WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `leases_oldest` ON `leases` (`ended_at`) WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE TABLE `machines` (
	`id` text PRIMARY KEY NOT NULL,
	`labels` text NOT NULL,
	`enforcement` text NOT NULL,
	`state` text NOT NULL,
	`intent` text NOT NULL,
	`drain_by` integer,
	`settled` integer NOT NULL,
	`wants` text NOT NULL,
	`wants_missing` text NOT NULL,
	`wants_look_at` integer,
	`fence_us` integer NOT NULL,
	`mark` integer,
	`next_hops` text NOT NULL,
	`boot_id` text,
	`agent_version` text,
	`seen_at` integer,
	`applied_revision` integer,
	`must_apply` integer,
	`limited_holders` integer DEFAULT 0 NOT NULL,
	`own_slices` integer DEFAULT 0 NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`revision` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `machines_silent` ON `machines` (seen_at + fence_us) WHERE state IN ('active', 'cordoned', 'draining') AND enforcement = 'agent' AND seen_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `machines_wanting` ON `machines` (`wants_look_at`,`id`) WHERE state = 'active' AND wants_look_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `machines_unsettled` ON `machines` (`id`) WHERE settled = 0;--> statement-breakpoint
CREATE TABLE `meta` (
	`key` text PRIMARY KEY NOT NULL,
	`value` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `pools` (
	`id` text PRIMARY KEY NOT NULL,
	`labels` text NOT NULL,
	`prefixes` text NOT NULL,
	`carve_outs` text NOT NULL,
	`slice_ports` integer NOT NULL,
	`usable_first` integer NOT NULL,
	`usable_last` integer NOT NULL,
	`shared_block_ports` integer NOT NULL,
	`cooldown_tcp_us` integer NOT NULL,
	`cooldown_udp_us` integer NOT NULL,
	`cooldown_icmp_us` integer NOT NULL,
	`routers` text NOT NULL,
	`cursors` text NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`revision` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `port_counts` (
	`pool` text NOT NULL,
	`machine` text NOT NULL,
	`family` integer NOT NULL,
	`protocol` text NOT NULL,
	`state` text NOT NULL,
	`ports` integer NOT NULL,
	PRIMARY KEY(`machine`, `protocol`, `pool`, `family`, `state`)
);
--> statement-breakpoint
CREATE TABLE `revocations` (
	`id` integer PRIMARY KEY NOT NULL,
	`machine` text,
	`holder` text,
	`pools` text,
	`prefix` text,
	`session` integer,
	`slice` integer,
	`lease` integer,
	`ending` text NOT NULL,
	`reason` text NOT NULL,
	`forced` integer NOT NULL,
	`state` text NOT NULL,
	`created_at` integer NOT NULL,
	`revoke_at` integer NOT NULL,
	`ended_at` integer,
	`done_at` integer,
	`leases` integer NOT NULL,
	`through` text,
	`revision` integer NOT NULL,
	CONSTRAINT "revocations_state" CHECK(state IN ('waiting', 'ending', 'done')),
	CONSTRAINT "revocations_times" CHECK((ended_at IS NULL) = (state = 'waiting') AND (done_at IS NOT NULL) = (state = 'done'))
);
--> statement-breakpoint
CREATE INDEX `revocations_waiting` ON `revocations` (`revoke_at`) WHERE state = 'waiting';--> statement-breakpoint
CREATE INDEX `revocations_ending` ON `revocations` (`id`) WHERE state = 'ending';--> statement-breakpoint
CREATE INDEX `revocations_wide` ON `revocations` (`id`) WHERE slice IS NULL;--> statement-breakpoint
CREATE INDEX `revocations_ended` ON `revocations` (`ended_at`);--> statement-breakpoint
CREATE TABLE `routers` (
	`id` text PRIMARY KEY NOT NULL,
	`labels` text NOT NULL,
	`applied_revision` integer NOT NULL,
	`seen_at` integer,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`revision` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `sessions` (
	`id` integer PRIMARY KEY NOT NULL,
	`machine` text NOT NULL,
	`holder` text NOT NULL,
	`state` text NOT NULL,
	`ending` text,
	`settled` integer NOT NULL,
	`ttl_us` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`opened_at` integer NOT NULL,
	`ended_at` integer,
	`revision` integer NOT NULL,
	CONSTRAINT "sessions_state" CHECK(state IN ('live', 'ended') AND (ending IS NOT NULL) = (state = 'ended'))
);
--> statement-breakpoint
CREATE INDEX `sessions_live` ON `sessions` (`expires_at`) WHERE state = 'live';--> statement-breakpoint
CREATE INDEX `sessions_unsettled` ON `sessions` (`id`) WHERE state = 'ended' AND settled = 0;--> statement-breakpoint
CREATE INDEX `sessions_of_holder` ON `sessions` (`machine`,`holder`,`id`) WHERE settled = 0;--> statement-breakpoint
CREATE INDEX `sessions_machine` ON `sessions` (`machine`,`id`);--> statement-breakpoint
CREATE INDEX `sessions_machine_live` ON `sessions` (`machine`,`id`) WHERE state = 'live';--> statement-breakpoint
CREATE INDEX `sessions_oldest` ON `sessions` (`ended_at`) WHERE state = 'ended' AND settled = 1;--> statement-breakpoint
CREATE TABLE `shared_blocks` (
	`slice` integer NOT NULL,
	`protocol` text NOT NULL,
	`first_port` integer NOT NULL,
	`last_port` integer NOT NULL,
	`machine` text NOT NULL,
	`pool` text NOT NULL,
	`family` integer NOT NULL,
	`binding` text NOT NULL,
	`members` integer NOT NULL,
	`offered` integer NOT NULL,
	`blocked_since` integer,
	`blocked_reason` text,
	PRIMARY KEY(`slice`, `protocol`, `first_port`),
	CONSTRAINT "shared_blocks_members" CHECK(members > 0)
);
--> statement-breakpoint
CREATE INDEX `shared_blocks_offered` ON `shared_blocks` (`machine`,`protocol`,`binding`,`pool`,`family`,`members`,`slice`,`first_port`) WHERE offered = 1;--> statement-breakpoint
CREATE INDEX `shared_blocks_blocked` ON `shared_blocks` (`machine`) WHERE blocked_since IS NOT NULL;--> statement-breakpoint
CREATE TABLE `slices` (
	`id` integer PRIMARY KEY NOT NULL,
	`pool` text NOT NULL,
	`pool_born_at` integer NOT NULL,
	`address` text NOT NULL,
	`address_key` text NOT NULL,
	`family` integer NOT NULL,
	`first_port` integer NOT NULL,
	`last_port` integer NOT NULL,
	`machine` text,
	`state` text NOT NULL,
	`generation` integer NOT NULL,
	`allocator` text NOT NULL,
	`draining_since` integer,
	`drain_by` integer,
	`next_machine` text,
	`next_allocator` text,
	`reclaimed` integer NOT NULL,
	`assigned_at` integer,
	`reusable_at` integer,
	`route` text NOT NULL,
	`route_revision` integer NOT NULL,
	`route_since` integer NOT NULL,
	`revision` integer NOT NULL,
	FOREIGN KEY (`machine`) REFERENCES `machines`(`id`) ON UPDATE no action ON DELETE no action,
	CONSTRAINT "slices_ports" CHECK(0 <= first_port AND first_port <= last_port AND last_port <= 65535),
	CONSTRAINT "slices_state" CHECK(state IN ('assigning', 'assigned', 'draining', 'cooling', 'free')),
	CONSTRAINT "slices_route" CHECK(route IN ('none', 'adding', 'routed', 'removing') AND (route = 'none') = (state = 'free')),
	CONSTRAINT "slices_allocator" CHECK(allocator IN ('server', 'machine')),
	CONSTRAINT "slices_owner" CHECK((machine IS NULL) = (state = 'free')),
	CONSTRAINT "slices_draining_since" CHECK((draining_since IS NOT NULL) = (state = 'draining')),
	CONSTRAINT "slices_next" CHECK((next_machine IS NULL) = (next_allocator IS NULL))
);
--> statement-breakpoint
CREATE UNIQUE INDEX `slices_place` ON `slices` (`address`,`first_port`,`pool_born_at`);--> statement-breakpoint
CREATE UNIQUE INDEX `slices_owned` ON `slices` (`address_key`,`first_port`) WHERE machine IS NOT NULL;--> statement-breakpoint
CREATE INDEX `slices_machine` ON `slices` (`machine`,`id`);--> statement-breakpoint
CREATE INDEX `slices_offers` ON `slices` (`machine`,`pool`,`family`) WHERE state = 'assigned' AND allocator = 'server';--> statement-breakpoint
CREATE INDEX `slices_machine_allocated` ON `slices` (`machine`,`pool`,`family`) WHERE state = 'assigned' AND allocator = 'machine';--> statement-breakpoint
CREATE INDEX `slices_pool` ON `slices` (`pool`,`state`,`reusable_at`);--> statement-breakpoint
CREATE INDEX `slices_cooling` ON `slices` (`reusable_at`) WHERE state = 'cooling' AND route <> 'removing';--> statement-breakpoint
CREATE INDEX `slices_waiting` ON `slices` (`pool`,`route`,`route_revision`,`id`) WHERE route IN ('adding', 'removing');--> statement-breakpoint
CREATE INDEX `slices_draining` ON `slices` (`pool`,`machine`,`draining_since`) WHERE state = 'draining';--> statement-breakpoint
CREATE TABLE `tenures` (
	`slice` integer NOT NULL,
	`generation` integer NOT NULL,
	`machine` text NOT NULL,
	`address` text NOT NULL,
	`first_port` integer NOT NULL,
	`last_port` integer NOT NULL,
	`allocator` text NOT NULL,
	`from_at` integer NOT NULL,
	`until_at` integer,
	PRIMARY KEY(`slice`, `generation`)
);
--> statement-breakpoint
CREATE INDEX `tenures_place` ON `tenures` (`address`,`first_port`,`from_at`);--> statement-breakpoint
CREATE INDEX `tenures_machine_allocated` ON `tenures` (`machine`,`from_at`) WHERE allocator = 'machine';--> statement-breakpoint
CREATE INDEX `tenures_oldest` ON `tenures` (`until_at`) WHERE until_at IS NOT NULL;--> statement-breakpoint
CREATE TABLE `access_tokens` (
	`id` integer PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`role` text NOT NULL,
	`machine` text,
	`holder` text,
	`router` text,
	`hash` text NOT NULL,
	`former_hash` text,
	`former_until` integer,
	`requests_per_s` integer,
	`requests_burst` integer,
	`watchers_max` integer,
	`created_at` integer NOT NULL,
	`rotated_at` integer,
	`expires_at` integer,
	`revoked_at` integer,
	`last_used_at` integer,
	CONSTRAINT "access_tokens_former" CHECK((former_hash IS NULL) = (former_until IS NULL))
);
--> statement-breakpoint
CREATE UNIQUE INDEX `access_tokens_hash` ON `access_tokens` (`hash`);--> statement-breakpoint
CREATE UNIQUE INDEX `access_tokens_former_hash` ON `access_tokens` (`former_hash`) WHERE former_hash IS NOT NULL;--> statement-breakpoint
CREATE INDEX `access_tokens_machine` ON `access_tokens` (`machine`,`id`) WHERE machine IS NOT NULL AND revoked_at IS NULL;--> statement-breakpoint
CREATE INDEX `access_tokens_router` ON `access_tokens` (`router`,`id`) WHERE router IS NOT NULL AND revoked_at IS NULL;--> statement-breakpoint
CREATE TABLE `audit` (
	`id` integer PRIMARY KEY NOT NULL,
	`at` integer NOT NULL,
	`token` integer,
	`token_name` text,
	`role` text,
	`request_id` text NOT NULL,
	`remote_address` text,
	`operation` text NOT NULL,
	`target` text NOT NULL,
	`outcome` text NOT NULL,
	`code` text,
	`revision` integer,
	`first_revision` integer,
	`changes` text NOT NULL,
	`changes_omitted` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `audit_at` ON `audit` (`at`,`id`);--> statement-breakpoint
CREATE INDEX `audit_token` ON `audit` (`token`,`id`);--> statement-breakpoint
CREATE INDEX `audit_operation` ON `audit` (`operation`,`id`);--> statement-breakpoint
CREATE INDEX `audit_target` ON `audit` (`target`,`id`);--> statement-breakpoint
CREATE INDEX `audit_request` ON `audit` (`request_id`,`id`);--> statement-breakpoint
CREATE INDEX `audit_made` ON `audit` (`revision`) WHERE first_revision IS NOT NULL;--> statement-breakpoint
CREATE TABLE `kept_answers` (
	`token` integer NOT NULL,
	`key` text NOT NULL,
	`fingerprint` text NOT NULL,
	`answer` text NOT NULL,
	`at` integer NOT NULL,
	PRIMARY KEY(`token`, `key`)
);
--> statement-breakpoint
CREATE INDEX `kept_answers_at` ON `kept_answers` (`at`);--> statement-breakpoint
CREATE TABLE `brokers` (
	`machine` text PRIMARY KEY NOT NULL,
	`epoch` text NOT NULL,
	`incarnation` integer NOT NULL,
	`is_whole` integer NOT NULL,
	`after_revision` integer NOT NULL,
	`through_revision` integer NOT NULL,
	`complete_since` integer NOT NULL,
	`as_of` integer NOT NULL,
	`reported_at` integer NOT NULL,
	`told` integer NOT NULL,
	`snapshot_page` integer,
	`snapshot_through` integer,
	`lost_before` integer,
	`lost_at` integer,
	`ports` text NOT NULL,
	`counters` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `reported_leases` (
	`machine` text NOT NULL,
	`incarnation` integer NOT NULL,
	`id` integer NOT NULL,
	`told` integer NOT NULL,
	`slice` integer NOT NULL,
	`generation` integer NOT NULL,
	`epoch` integer NOT NULL,
	`session` integer,
	`holder` text NOT NULL,
	`pool` text NOT NULL,
	`address` text NOT NULL,
	`protocol` text NOT NULL,
	`first_port` integer NOT NULL,
	`last_port` integer NOT NULL,
	`mode` text NOT NULL,
	`binding` text,
	`state` text NOT NULL,
	`ending` text,
	`refusal_errno` text,
	`refusal_detail` text,
	`reason` text,
	`granted_at` integer NOT NULL,
	`active_at` integer,
	`ending_at` integer,
	`empty_at` integer,
	`reusable_at` integer,
	`ended_at` integer,
	`over_at` integer,
	`revision` integer NOT NULL,
	PRIMARY KEY(`machine`, `incarnation`, `id`),
	CONSTRAINT "reported_leases_ports" CHECK(0 <= first_port AND first_port <= last_port AND last_port <= 65535),
	CONSTRAINT "reported_leases_state" CHECK(state IN ('pending', 'active', 'refused', 'ending', 'cooling', 'ended')),
	CONSTRAINT "reported_leases_over" CHECK((ended_at IS NOT NULL) = (state IN ('refused', 'ended')) AND (over_at IS NOT NULL) = (state IN ('refused', 'cooling', 'ended')))
);
--> statement-breakpoint
CREATE INDEX `reported_leases_place` ON `reported_leases` (`slice`,`generation`,`protocol`,`first_port`,CASE WHEN mode = 'shared' THEN holder ELSE '' END,`granted_at`);--> statement-breakpoint
CREATE INDEX `reported_leases_occupants` ON `reported_leases` (`slice`,`generation`) WHERE empty_at IS NULL AND state <> 'refused';--> statement-breakpoint
CREATE INDEX `reported_leases_live` ON `reported_leases` (`machine`,`granted_at`,`id`) WHERE over_at IS NULL;--> statement-breakpoint
CREATE INDEX `reported_leases_of_session` ON `reported_leases` (`machine`,`incarnation`,`session`,`id`) WHERE session IS NOT NULL;--> statement-breakpoint
CREATE INDEX `reported_leases_holder_past` ON `reported_leases` (`machine`,`holder`,CASE WHEN over_at - granted_at <= 60000000 THEN 0 WHEN over_at - granted_at <= 480000000 THEN 1 WHEN over_at - granted_at <= 3600000000 THEN 2 WHEN over_at - granted_at <= 28800000000 THEN 3 WHEN over_at - granted_at <= 230400000000 THEN 4 WHEN over_at - granted_at <= 1843200000000 THEN 5 ELSE 6 END,`granted_at`,`over_at`) WHERE over_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `reported_leases_oldest` ON `reported_leases` (`over_at`) WHERE over_at IS NOT NULL;--> statement-breakpoint
CREATE TABLE `reported_sessions` (
	`machine` text NOT NULL,
	`incarnation` integer NOT NULL,
	`id` integer NOT NULL,
	`told` integer NOT NULL,
	`holder` text NOT NULL,
	`state` text NOT NULL,
	`ending` text,
	`ttl_us` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`opened_at` integer NOT NULL,
	`ended_at` integer,
	`revision` integer NOT NULL,
	PRIMARY KEY(`machine`, `incarnation`, `id`),
	CONSTRAINT "reported_sessions_state" CHECK(state IN ('live', 'ended') AND (ended_at IS NOT NULL) = (state = 'ended'))
);
--> statement-breakpoint
CREATE INDEX `reported_sessions_live` ON `reported_sessions` (`machine`,`told`) WHERE state = 'live';--> statement-breakpoint
CREATE INDEX `reported_sessions_oldest` ON `reported_sessions` (`ended_at`) WHERE ended_at IS NOT NULL;