CREATE TABLE "access_tokens" (
	"id" bigint PRIMARY KEY NOT NULL,
	"name" text COLLATE "C" NOT NULL,
	"role" text COLLATE "C" NOT NULL,
	"machine" text COLLATE "C",
	"holder" text COLLATE "C",
	"router" text COLLATE "C",
	"hash" text COLLATE "C" NOT NULL,
	"former_hash" text COLLATE "C",
	"former_until" bigint,
	"requests_per_s" bigint,
	"requests_burst" bigint,
	"watchers_max" bigint,
	"created_at" bigint NOT NULL,
	"rotated_at" bigint,
	"expires_at" bigint,
	"revoked_at" bigint,
	"last_used_at" bigint,
	CONSTRAINT "access_tokens_former" CHECK ((former_hash IS NULL) = (former_until IS NULL))
);
--> statement-breakpoint
CREATE TABLE "audit" (
	"id" bigint PRIMARY KEY NOT NULL,
	"at" bigint NOT NULL,
	"token" bigint,
	"token_name" text COLLATE "C",
	"role" text COLLATE "C",
	"request_id" text COLLATE "C" NOT NULL,
	"remote_address" text COLLATE "C",
	"operation" text COLLATE "C" NOT NULL,
	"target" text COLLATE "C" NOT NULL,
	"outcome" text COLLATE "C" NOT NULL,
	"code" text COLLATE "C",
	"revision" bigint,
	"first_revision" bigint,
	"changes" text COLLATE "C" NOT NULL,
	"changes_omitted" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "brokers" (
	"machine" text COLLATE "C" PRIMARY KEY NOT NULL,
	"epoch" text COLLATE "C" NOT NULL,
	"incarnation" bigint NOT NULL,
	"is_whole" bigint NOT NULL,
	"after_revision" bigint NOT NULL,
	"through_revision" bigint NOT NULL,
	"complete_since" bigint NOT NULL,
	"as_of" bigint NOT NULL,
	"reported_at" bigint NOT NULL,
	"told" bigint NOT NULL,
	"snapshot_page" bigint,
	"snapshot_through" bigint,
	"lost_before" bigint,
	"lost_at" bigint,
	"ports" text COLLATE "C" NOT NULL,
	"counters" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "epochs" (
	"number" bigint PRIMARY KEY NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"cause" text COLLATE "C" NOT NULL,
	"detail" text COLLATE "C" NOT NULL,
	"after_revision" bigint NOT NULL,
	"from_revision" bigint NOT NULL,
	"began_at" bigint NOT NULL,
	"confirmed_at" bigint,
	"confirmed_by" text COLLATE "C",
	"revision" bigint NOT NULL,
	CONSTRAINT "epochs_from" CHECK (after_revision < from_revision)
);
--> statement-breakpoint
CREATE TABLE "events" (
	"revision" bigint PRIMARY KEY NOT NULL,
	"at" bigint NOT NULL,
	"machine" text COLLATE "C",
	"steering" integer,
	"body" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "extents" (
	"slice" bigint NOT NULL,
	"protocol" text COLLATE "C" NOT NULL,
	"first_port" integer NOT NULL,
	"last_port" integer NOT NULL,
	"machine" text COLLATE "C" NOT NULL,
	"pool" text COLLATE "C" NOT NULL,
	"family" integer NOT NULL,
	"state" text COLLATE "C" NOT NULL,
	"allocator" text COLLATE "C" NOT NULL,
	"offered" integer NOT NULL,
	"fit" integer NOT NULL,
	"rested_since" bigint NOT NULL,
	"reusable_at" bigint,
	"blocked_since" bigint,
	"blocked_reason" text COLLATE "C",
	CONSTRAINT "extents_slice_protocol_first_port_pk" PRIMARY KEY("slice","protocol","first_port"),
	CONSTRAINT "extents_ports" CHECK (0 <= first_port AND first_port <= last_port AND last_port <= 65535),
	CONSTRAINT "extents_state" CHECK (state IN ('free', 'blocked', 'cooling') AND (offered = 0 OR (state = 'free' AND allocator = 'server')))
);
--> statement-breakpoint
CREATE TABLE "held_ports" (
	"machine" text COLLATE "C" NOT NULL,
	"holder" text COLLATE "C" NOT NULL,
	"protocol" text COLLATE "C" NOT NULL,
	"ports" bigint NOT NULL,
	CONSTRAINT "held_ports_machine_holder_protocol_pk" PRIMARY KEY("machine","holder","protocol")
);
--> statement-breakpoint
CREATE TABLE "history" (
	"id" bigint PRIMARY KEY NOT NULL,
	"complete_since" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "holders" (
	"machine" text COLLATE "C" NOT NULL,
	"name" text COLLATE "C" NOT NULL,
	"kind" text COLLATE "C" NOT NULL,
	"uid" bigint,
	"cgroup" text COLLATE "C",
	"limits" text COLLATE "C",
	"sticky_v4" text COLLATE "C",
	"sticky_v6" text COLLATE "C",
	"created_at" bigint NOT NULL,
	"updated_at" bigint NOT NULL,
	"revision" bigint NOT NULL,
	CONSTRAINT "holders_machine_name_pk" PRIMARY KEY("machine","name")
);
--> statement-breakpoint
CREATE TABLE "kept_answers" (
	"token" bigint NOT NULL,
	"key" text COLLATE "C" NOT NULL,
	"fingerprint" text COLLATE "C" NOT NULL,
	"answer" text COLLATE "C" NOT NULL,
	"at" bigint NOT NULL,
	CONSTRAINT "kept_answers_token_key_pk" PRIMARY KEY("token","key")
);
--> statement-breakpoint
CREATE TABLE "leases" (
	"id" bigint PRIMARY KEY NOT NULL,
	"slice" bigint NOT NULL,
	"generation" integer NOT NULL,
	"epoch" integer NOT NULL,
	"session" bigint,
	"unit" text COLLATE "C",
	"machine" text COLLATE "C" NOT NULL,
	"holder" text COLLATE "C" NOT NULL,
	"pool" text COLLATE "C" NOT NULL,
	"address" text COLLATE "C" NOT NULL,
	"protocol" text COLLATE "C" NOT NULL,
	"first_port" integer NOT NULL,
	"last_port" integer NOT NULL,
	"mode" text COLLATE "C" NOT NULL,
	"binding" text COLLATE "C",
	"state" text COLLATE "C" NOT NULL,
	"ending" text COLLATE "C",
	"refusal_errno" text COLLATE "C",
	"refusal_detail" text COLLATE "C",
	"reason" text COLLATE "C",
	"forced" bigint,
	"granted_at" bigint NOT NULL,
	"active_at" bigint,
	"ending_at" bigint,
	"empty_at" bigint,
	"reusable_at" bigint,
	"ended_at" bigint,
	"revision" bigint NOT NULL,
	CONSTRAINT "leases_ports" CHECK (0 <= first_port AND first_port <= last_port AND last_port <= 65535),
	CONSTRAINT "leases_state" CHECK (state IN ('pending', 'active', 'refused', 'ending', 'cooling', 'ended')),
	CONSTRAINT "leases_over" CHECK ((ended_at IS NOT NULL) = (state IN ('refused', 'ended'))),
	CONSTRAINT "leases_shared" CHECK ((binding IS NOT NULL) = (mode = 'shared') AND (mode = 'exclusive' OR protocol = 'tcp'))
);
--> statement-breakpoint
CREATE TABLE "log_end" (
	"only" integer PRIMARY KEY NOT NULL,
	"revision" bigint NOT NULL,
	"last_event_at" bigint NOT NULL,
	"allocator_epoch" integer NOT NULL,
	"confirmed_at" bigint,
	"cluster" text COLLATE "C" NOT NULL,
	CONSTRAINT "log_end_one_row" CHECK ("only" = 1)
);
--> statement-breakpoint
CREATE TABLE "machines" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"labels" text COLLATE "C" NOT NULL,
	"enforcement" text COLLATE "C" NOT NULL,
	"state" text COLLATE "C" NOT NULL,
	"intent" text COLLATE "C" NOT NULL,
	"drain_by" bigint,
	"settled" integer NOT NULL,
	"wants" text COLLATE "C" NOT NULL,
	"wants_missing" text COLLATE "C" NOT NULL,
	"wants_look_at" bigint,
	"fence_us" bigint NOT NULL,
	"mark" bigint,
	"next_hops" text COLLATE "C" NOT NULL,
	"boot_id" text COLLATE "C",
	"agent_version" text COLLATE "C",
	"seen_at" bigint,
	"applied_revision" bigint,
	"must_apply" bigint,
	"limited_holders" integer NOT NULL,
	"own_slices" integer NOT NULL,
	"created_at" bigint NOT NULL,
	"updated_at" bigint NOT NULL,
	"revision" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "meta" (
	"key" text COLLATE "C" PRIMARY KEY NOT NULL,
	"value" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "pools" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"labels" text COLLATE "C" NOT NULL,
	"prefixes" text COLLATE "C" NOT NULL,
	"carve_outs" text COLLATE "C" NOT NULL,
	"slice_ports" integer NOT NULL,
	"usable_first" integer NOT NULL,
	"usable_last" integer NOT NULL,
	"shared_block_ports" integer NOT NULL,
	"cooldown_tcp_us" bigint NOT NULL,
	"cooldown_udp_us" bigint NOT NULL,
	"cooldown_icmp_us" bigint NOT NULL,
	"routers" text COLLATE "C" NOT NULL,
	"cursors" text COLLATE "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"updated_at" bigint NOT NULL,
	"revision" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "port_counts" (
	"pool" text COLLATE "C" NOT NULL,
	"machine" text COLLATE "C" NOT NULL,
	"family" integer NOT NULL,
	"protocol" text COLLATE "C" NOT NULL,
	"state" text COLLATE "C" NOT NULL,
	"ports" bigint NOT NULL,
	CONSTRAINT "port_counts_machine_protocol_pool_family_state_pk" PRIMARY KEY("machine","protocol","pool","family","state")
);
--> statement-breakpoint
CREATE TABLE "reported_leases" (
	"machine" text COLLATE "C" NOT NULL,
	"incarnation" bigint NOT NULL,
	"id" bigint NOT NULL,
	"told" bigint NOT NULL,
	"slice" bigint NOT NULL,
	"generation" integer NOT NULL,
	"epoch" integer NOT NULL,
	"session" bigint,
	"holder" text COLLATE "C" NOT NULL,
	"pool" text COLLATE "C" NOT NULL,
	"address" text COLLATE "C" NOT NULL,
	"protocol" text COLLATE "C" NOT NULL,
	"first_port" integer NOT NULL,
	"last_port" integer NOT NULL,
	"mode" text COLLATE "C" NOT NULL,
	"binding" text COLLATE "C",
	"state" text COLLATE "C" NOT NULL,
	"ending" text COLLATE "C",
	"refusal_errno" text COLLATE "C",
	"refusal_detail" text COLLATE "C",
	"reason" text COLLATE "C",
	"granted_at" bigint NOT NULL,
	"active_at" bigint,
	"ending_at" bigint,
	"empty_at" bigint,
	"reusable_at" bigint,
	"ended_at" bigint,
	"over_at" bigint,
	"revision" bigint NOT NULL,
	CONSTRAINT "reported_leases_machine_incarnation_id_pk" PRIMARY KEY("machine","incarnation","id"),
	CONSTRAINT "reported_leases_ports" CHECK (0 <= first_port AND first_port <= last_port AND last_port <= 65535),
	CONSTRAINT "reported_leases_state" CHECK (state IN ('pending', 'active', 'refused', 'ending', 'cooling', 'ended')),
	CONSTRAINT "reported_leases_over" CHECK ((ended_at IS NOT NULL) = (state IN ('refused', 'ended')) AND (over_at IS NOT NULL) = (state IN ('refused', 'cooling', 'ended')))
);
--> statement-breakpoint
CREATE TABLE "reported_sessions" (
	"machine" text COLLATE "C" NOT NULL,
	"incarnation" bigint NOT NULL,
	"id" bigint NOT NULL,
	"told" bigint NOT NULL,
	"holder" text COLLATE "C" NOT NULL,
	"state" text COLLATE "C" NOT NULL,
	"ending" text COLLATE "C",
	"ttl_us" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	"opened_at" bigint NOT NULL,
	"ended_at" bigint,
	"revision" bigint NOT NULL,
	CONSTRAINT "reported_sessions_machine_incarnation_id_pk" PRIMARY KEY("machine","incarnation","id"),
	CONSTRAINT "reported_sessions_state" CHECK (state IN ('live', 'ended') AND (ended_at IS NOT NULL) = (state = 'ended'))
);
--> statement-breakpoint
CREATE TABLE "revocations" (
	"id" bigint PRIMARY KEY NOT NULL,
	"machine" text COLLATE "C",
	"holder" text COLLATE "C",
	"pools" text COLLATE "C",
	"prefix" text COLLATE "C",
	"session" bigint,
	"slice" bigint,
	"lease" bigint,
	"ending" text COLLATE "C" NOT NULL,
	"reason" text COLLATE "C" NOT NULL,
	"forced" bigint NOT NULL,
	"state" text COLLATE "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"revoke_at" bigint NOT NULL,
	"ended_at" bigint,
	"done_at" bigint,
	"leases" bigint NOT NULL,
	"through" text COLLATE "C",
	"revision" bigint NOT NULL,
	CONSTRAINT "revocations_state" CHECK (state IN ('waiting', 'ending', 'done')),
	CONSTRAINT "revocations_times" CHECK ((ended_at IS NULL) = (state = 'waiting') AND (done_at IS NOT NULL) = (state = 'done'))
);
--> statement-breakpoint
CREATE TABLE "routers" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"labels" text COLLATE "C" NOT NULL,
	"applied_revision" bigint NOT NULL,
	"seen_at" bigint,
	"created_at" bigint NOT NULL,
	"updated_at" bigint NOT NULL,
	"revision" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "sessions" (
	"id" bigint PRIMARY KEY NOT NULL,
	"machine" text COLLATE "C" NOT NULL,
	"holder" text COLLATE "C" NOT NULL,
	"state" text COLLATE "C" NOT NULL,
	"ending" text COLLATE "C",
	"settled" integer NOT NULL,
	"ttl_us" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	"opened_at" bigint NOT NULL,
	"ended_at" bigint,
	"revision" bigint NOT NULL,
	CONSTRAINT "sessions_state" CHECK (state IN ('live', 'ended') AND (ending IS NOT NULL) = (state = 'ended'))
);
--> statement-breakpoint
CREATE TABLE "shared_blocks" (
	"slice" bigint NOT NULL,
	"protocol" text COLLATE "C" NOT NULL,
	"first_port" integer NOT NULL,
	"last_port" integer NOT NULL,
	"machine" text COLLATE "C" NOT NULL,
	"pool" text COLLATE "C" NOT NULL,
	"family" integer NOT NULL,
	"binding" text COLLATE "C" NOT NULL,
	"members" integer NOT NULL,
	"offered" integer NOT NULL,
	"blocked_since" bigint,
	"blocked_reason" text COLLATE "C",
	CONSTRAINT "shared_blocks_slice_protocol_first_port_pk" PRIMARY KEY("slice","protocol","first_port"),
	CONSTRAINT "shared_blocks_members" CHECK (members > 0)
);
--> statement-breakpoint
CREATE TABLE "slices" (
	"id" bigint PRIMARY KEY NOT NULL,
	"pool" text COLLATE "C" NOT NULL,
	"pool_born_at" bigint NOT NULL,
	"address" text COLLATE "C" NOT NULL,
	"address_key" text COLLATE "C" NOT NULL,
	"family" integer NOT NULL,
	"first_port" integer NOT NULL,
	"last_port" integer NOT NULL,
	"machine" text COLLATE "C",
	"state" text COLLATE "C" NOT NULL,
	"generation" integer NOT NULL,
	"allocator" text COLLATE "C" NOT NULL,
	"draining_since" bigint,
	"drain_by" bigint,
	"next_machine" text COLLATE "C",
	"next_allocator" text COLLATE "C",
	"reclaimed" integer NOT NULL,
	"assigned_at" bigint,
	"reusable_at" bigint,
	"route" text COLLATE "C" NOT NULL,
	"route_revision" bigint NOT NULL,
	"route_since" bigint NOT NULL,
	"revision" bigint NOT NULL,
	CONSTRAINT "slices_ports" CHECK (0 <= first_port AND first_port <= last_port AND last_port <= 65535),
	CONSTRAINT "slices_state" CHECK (state IN ('assigning', 'assigned', 'draining', 'cooling', 'free')),
	CONSTRAINT "slices_route" CHECK (route IN ('none', 'adding', 'routed', 'removing') AND (route = 'none') = (state = 'free')),
	CONSTRAINT "slices_allocator" CHECK (allocator IN ('server', 'machine')),
	CONSTRAINT "slices_owner" CHECK ((machine IS NULL) = (state = 'free')),
	CONSTRAINT "slices_draining_since" CHECK ((draining_since IS NOT NULL) = (state = 'draining')),
	CONSTRAINT "slices_next" CHECK ((next_machine IS NULL) = (next_allocator IS NULL))
);
--> statement-breakpoint
CREATE TABLE "tenures" (
	"slice" bigint NOT NULL,
	"generation" integer NOT NULL,
	"machine" text COLLATE "C" NOT NULL,
	"address" text COLLATE "C" NOT NULL,
	"first_port" integer NOT NULL,
	"last_port" integer NOT NULL,
	"allocator" text COLLATE "C" NOT NULL,
	"from_at" bigint NOT NULL,
	"until_at" bigint,
	CONSTRAINT "tenures_slice_generation_pk" PRIMARY KEY("slice","generation")
);
--> statement-breakpoint
ALTER TABLE "holders" ADD CONSTRAINT "holders_machine_machines_id_fk" FOREIGN KEY ("machine") REFERENCES "public"."machines"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "slices" ADD CONSTRAINT "slices_machine_machines_id_fk" FOREIGN KEY ("machine") REFERENCES "public"."machines"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "access_tokens_hash" ON "access_tokens" USING btree ("hash");--> statement-breakpoint
CREATE UNIQUE INDEX "access_tokens_former_hash" ON "access_tokens" USING btree ("former_hash") WHERE former_hash IS NOT NULL;--> statement-breakpoint
CREATE INDEX "access_tokens_machine" ON "access_tokens" USING btree ("machine","id") WHERE machine IS NOT NULL AND revoked_at IS NULL;--> statement-breakpoint
CREATE INDEX "access_tokens_router" ON "access_tokens" USING btree ("router","id") WHERE router IS NOT NULL AND revoked_at IS NULL;--> statement-breakpoint
CREATE INDEX "audit_at" ON "audit" USING btree ("at","id");--> statement-breakpoint
CREATE INDEX "audit_token" ON "audit" USING btree ("token","id");--> statement-breakpoint
CREATE INDEX "audit_operation" ON "audit" USING btree ("operation","id");--> statement-breakpoint
CREATE INDEX "audit_target" ON "audit" USING btree ("target","id");--> statement-breakpoint
CREATE INDEX "audit_request" ON "audit" USING btree ("request_id","id");--> statement-breakpoint
CREATE INDEX "audit_made" ON "audit" USING btree ("revision") WHERE first_revision IS NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "epochs_id" ON "epochs" USING btree ("id");--> statement-breakpoint
CREATE INDEX "events_machine" ON "events" USING btree ("machine","revision");--> statement-breakpoint
CREATE INDEX "events_steering" ON "events" USING btree ("revision") WHERE steering = 1;--> statement-breakpoint
CREATE INDEX "extents_offered" ON "extents" USING btree ("machine","protocol","pool","family","fit","rested_since","slice","first_port") WHERE offered = 1;--> statement-breakpoint
CREATE INDEX "extents_cooling" ON "extents" USING btree ("reusable_at") WHERE state = 'cooling';--> statement-breakpoint
CREATE INDEX "extents_next_rest" ON "extents" USING btree ("machine","protocol","reusable_at") WHERE state = 'cooling';--> statement-breakpoint
CREATE INDEX "extents_blocked" ON "extents" USING btree ("machine") WHERE state = 'blocked';--> statement-breakpoint
CREATE INDEX "holders_uid" ON "holders" USING btree ("machine","uid") WHERE uid IS NOT NULL;--> statement-breakpoint
CREATE INDEX "holders_cgroup" ON "holders" USING btree ("machine") WHERE cgroup IS NOT NULL;--> statement-breakpoint
CREATE INDEX "holders_limited" ON "holders" USING btree ("machine") WHERE limits IS NOT NULL;--> statement-breakpoint
CREATE INDEX "kept_answers_at" ON "kept_answers" USING btree ("at");--> statement-breakpoint
CREATE UNIQUE INDEX "leases_live" ON "leases" USING btree ("slice","protocol","first_port",(CASE WHEN mode = 'shared' AND state <> 'cooling' THEN holder ELSE '' END)) WHERE ended_at IS NULL;--> statement-breakpoint
CREATE INDEX "leases_machine" ON "leases" USING btree ("machine","id") WHERE ended_at IS NULL;--> statement-breakpoint
CREATE INDEX "leases_machine_past" ON "leases" USING btree ("machine","id") WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "leases_settled" ON "leases" USING btree ("session","id") WHERE state NOT IN ('pending', 'active');--> statement-breakpoint
CREATE INDEX "leases_unsettled" ON "leases" USING btree ("session","id") WHERE state IN ('pending', 'active');--> statement-breakpoint
CREATE INDEX "leases_reserved" ON "leases" USING btree ("id") WHERE session IS NULL;--> statement-breakpoint
CREATE INDEX "leases_of_holder" ON "leases" USING btree ("machine","holder","id") WHERE (state = 'ending' OR (session IS NULL AND state IN ('pending', 'active')));--> statement-breakpoint
CREATE INDEX "leases_cooling" ON "leases" USING btree ("reusable_at") WHERE state = 'cooling';--> statement-breakpoint
CREATE INDEX "leases_ending" ON "leases" USING btree ("machine","ending_at") WHERE state = 'ending';--> statement-breakpoint
CREATE INDEX "leases_next_rest" ON "leases" USING btree ("machine","protocol","reusable_at") WHERE state = 'cooling';--> statement-breakpoint
CREATE INDEX "leases_past" ON "leases" USING btree ("slice","protocol","first_port",(CASE WHEN mode = 'shared' THEN holder ELSE '' END),"ended_at") WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "leases_holder_past" ON "leases" USING btree ("machine","holder",(CASE WHEN ended_at - granted_at <= 60000000 THEN 0 WHEN ended_at - granted_at <= 480000000 THEN 1 WHEN ended_at - granted_at <= 3600000000 THEN 2 WHEN ended_at - granted_at <= 28800000000 THEN 3 WHEN ended_at - granted_at <= 230400000000 THEN 4 WHEN ended_at - granted_at <= 1843200000000 THEN 5 ELSE 6 END),"granted_at","ended_at") WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "leases_oldest" ON "leases" USING btree ("ended_at") WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "machines_silent" ON "machines" USING btree ((seen_at + fence_us)) WHERE state IN ('active', 'cordoned', 'draining') AND enforcement = 'agent' AND seen_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "machines_wanting" ON "machines" USING btree ("wants_look_at","id") WHERE state = 'active' AND wants_look_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "machines_unsettled" ON "machines" USING btree ("id") WHERE settled = 0;--> statement-breakpoint
CREATE INDEX "reported_leases_place" ON "reported_leases" USING btree ("slice","generation","protocol","first_port",(CASE WHEN mode = 'shared' THEN holder ELSE '' END),"granted_at");--> statement-breakpoint
CREATE INDEX "reported_leases_occupants" ON "reported_leases" USING btree ("slice","generation") WHERE empty_at IS NULL AND state <> 'refused';--> statement-breakpoint
CREATE INDEX "reported_leases_live" ON "reported_leases" USING btree ("machine","granted_at","id") WHERE over_at IS NULL;--> statement-breakpoint
CREATE INDEX "reported_leases_of_session" ON "reported_leases" USING btree ("machine","incarnation","session","id") WHERE session IS NOT NULL;--> statement-breakpoint
CREATE INDEX "reported_leases_holder_past" ON "reported_leases" USING btree ("machine","holder",(CASE WHEN over_at - granted_at <= 60000000 THEN 0 WHEN over_at - granted_at <= 480000000 THEN 1 WHEN over_at - granted_at <= 3600000000 THEN 2 WHEN over_at - granted_at <= 28800000000 THEN 3 WHEN over_at - granted_at <= 230400000000 THEN 4 WHEN over_at - granted_at <= 1843200000000 THEN 5 ELSE 6 END),"granted_at","over_at") WHERE over_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "reported_leases_oldest" ON "reported_leases" USING btree ("over_at") WHERE over_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "reported_sessions_live" ON "reported_sessions" USING btree ("machine","told") WHERE state = 'live';--> statement-breakpoint
CREATE INDEX "reported_sessions_oldest" ON "reported_sessions" USING btree ("ended_at") WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "revocations_waiting" ON "revocations" USING btree ("revoke_at") WHERE state = 'waiting';--> statement-breakpoint
CREATE INDEX "revocations_ending" ON "revocations" USING btree ("id") WHERE state = 'ending';--> statement-breakpoint
CREATE INDEX "revocations_wide" ON "revocations" USING btree ("id") WHERE slice IS NULL;--> statement-breakpoint
CREATE INDEX "revocations_ended" ON "revocations" USING btree ("ended_at");--> statement-breakpoint
CREATE INDEX "sessions_live" ON "sessions" USING btree ("expires_at") WHERE state = 'live';--> statement-breakpoint
CREATE INDEX "sessions_unsettled" ON "sessions" USING btree ("id") WHERE state = 'ended' AND settled = 0;--> statement-breakpoint
CREATE INDEX "sessions_of_holder" ON "sessions" USING btree ("machine","holder","id") WHERE settled = 0;--> statement-breakpoint
CREATE INDEX "sessions_machine" ON "sessions" USING btree ("machine","id");--> statement-breakpoint
CREATE INDEX "sessions_machine_live" ON "sessions" USING btree ("machine","id") WHERE state = 'live';--> statement-breakpoint
CREATE INDEX "sessions_oldest" ON "sessions" USING btree ("ended_at") WHERE state = 'ended' AND settled = 1;--> statement-breakpoint
CREATE INDEX "shared_blocks_offered" ON "shared_blocks" USING btree ("machine","protocol","binding","pool","family","members","slice","first_port") WHERE offered = 1;--> statement-breakpoint
CREATE INDEX "shared_blocks_blocked" ON "shared_blocks" USING btree ("machine") WHERE blocked_since IS NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "slices_place" ON "slices" USING btree ("address","first_port","pool_born_at");--> statement-breakpoint
CREATE UNIQUE INDEX "slices_owned" ON "slices" USING btree ("address_key","first_port") WHERE machine IS NOT NULL;--> statement-breakpoint
CREATE INDEX "slices_machine" ON "slices" USING btree ("machine","id");--> statement-breakpoint
CREATE INDEX "slices_offers" ON "slices" USING btree ("machine","pool","family") WHERE state = 'assigned' AND allocator = 'server';--> statement-breakpoint
CREATE INDEX "slices_machine_allocated" ON "slices" USING btree ("machine","pool","family") WHERE state = 'assigned' AND allocator = 'machine';--> statement-breakpoint
CREATE INDEX "slices_pool" ON "slices" USING btree ("pool","state","reusable_at");--> statement-breakpoint
CREATE INDEX "slices_cooling" ON "slices" USING btree ("reusable_at") WHERE state = 'cooling' AND route <> 'removing';--> statement-breakpoint
CREATE INDEX "slices_waiting" ON "slices" USING btree ("pool","route","route_revision","id") WHERE route IN ('adding', 'removing');--> statement-breakpoint
CREATE INDEX "slices_draining" ON "slices" USING btree ("pool","machine","draining_since") WHERE state = 'draining';--> statement-breakpoint
CREATE INDEX "tenures_place" ON "tenures" USING btree ("address","first_port","from_at");--> statement-breakpoint
CREATE INDEX "tenures_machine_allocated" ON "tenures" USING btree ("machine","from_at") WHERE allocator = 'machine';--> statement-breakpoint
CREATE INDEX "tenures_oldest" ON "tenures" USING btree ("until_at") WHERE until_at IS NOT NULL;