-- Lanes: what one API key may do now, alone or with one model, known to all dispatchers. A key appears as
-- the first digits of its SHA-256. A lane rests until a time, or until somebody proves that it is served
-- again (paused_until = never()); and it may have a maximum of runs at once.

create function lane_name(p_key text, p_model text) returns text language sql immutable parallel safe as $$
  select concat_ws('/', p_key, nullif(p_model, ''))
$$;

-- Every dispatcher keeps its lanes in mind: it hears of a change, and looks for itself now and then.
create function tell_lane_change() returns trigger language plpgsql security definer set search_path from current as $$
begin
  perform pg_notify('inturn_lanes', current_schema());
  return null;
end $$;

create trigger tell_lane_change after insert or update or delete on lanes
  for each row execute function tell_lane_change();

-- The provider has refused a call of this lane: for p_retry_after_ms, or, where it does not say, for a
-- time that doubles with each pause that no success followed. With
-- p_until_proof until a probe succeeds or an operator resumes it. The calls that were under way when
-- the lane came to rest are refused too: they can prolong its pause and are no further strike.
-- Returns for how many milliseconds it rests.
create function pause_lane(
  p_provider text, p_key text, p_model text, p_reason text, p_until_proof boolean, p_retry_after_ms bigint) returns float8
language plpgsql security definer set search_path from current set lock_timeout = '500ms' as $$
declare
  v_lane lanes;
  v_now timestamptz := clock_timestamp();
  v_rests boolean;
  v_until timestamptz;
begin
  insert into lanes (provider, key, model) values (p_provider, p_key, p_model) on conflict do nothing;
  select * into v_lane from lanes l where l.provider = p_provider and l.key = p_key and l.model = p_model for update;
  v_rests := coalesce(v_lane.paused_until > v_now, false);
  v_until := case
    when p_until_proof then never()
    when p_retry_after_ms is not null then v_now + p_retry_after_ms * interval '1 millisecond'
    when v_rests then v_lane.paused_until
    -- From 1 to 60 seconds, jittered to between a half and all of it.
    else v_now + least(60, 2 * 2 ^ least(v_lane.strikes, 10)) * (0.5 + random() / 2) * interval '1 second'
  end;
  if not v_rests or v_until > v_lane.paused_until then
    update lanes l
       set paused_at = case when v_rests then l.paused_at else v_now end,
           probed_at = case when v_rests then l.probed_at end,
           paused_until = v_until,
           reason = p_reason,
           strikes = l.strikes + case when v_rests then 0 else 1 end,
           updated_at = v_now
     where l.provider = p_provider and l.key = p_key and l.model = p_model;
  else
    v_until := v_lane.paused_until;
  end if;
  return extract(epoch from v_until - v_now) * 1000;
end $$;

-- An operation that was claimed at p_since has succeeded: the provider serves the key and the model, so
-- pauses from before then are over and forgotten.
create function forgive_lanes(p_provider text, p_key text, p_model text, p_since timestamptz) returns void
language sql security definer set search_path from current as $$
  update lanes l
     set paused_at = null, paused_until = null, reason = null, strikes = 0, probed_at = null, updated_at = clock_timestamp()
    from (select s.model from lanes s
           where s.provider = p_provider and s.key = p_key and s.model in ('', p_model) and s.paused_at < p_since
             for update skip locked) as served
   where l.provider = p_provider and l.key = p_key and l.model = served.model
$$;

-- Lets one dispatcher of the fleet try one operation on a key that rests until a proof, every p_probe_ms
-- and only where a head of these providers (p_heads) waits. True: the caller is to try.
create function probe_lane(p_provider text, p_key text, p_heads text[], p_probe_ms integer) returns boolean
language plpgsql security definer set search_path from current set enable_seqscan = off as $$
begin
  if not exists (select from thread_operations h
                  where h.provider = any (p_heads) and h.ready_at is not null and h.ready_at <= clock_timestamp()) then
    return false;
  end if;
  update lanes l set probed_at = clock_timestamp()
   where (l.provider, l.key, l.model) = (
           select s.provider, s.key, s.model from lanes s
            where s.provider = p_provider and s.key = p_key and s.model = '' and s.paused_until = never()
              and greatest(s.paused_at, s.probed_at) <= clock_timestamp() - p_probe_ms * interval '1 millisecond'
              for update skip locked);
  return found;
end $$;

-- For operators: the lane is served again, from now on. Returns whether it rested.
create function resume_lane(p_provider text, p_key text, p_model text default '') returns boolean
language plpgsql set search_path from current as $$
declare
  v_rested boolean;
begin
  select l.paused_until > clock_timestamp() into v_rested
    from lanes l where l.provider = p_provider and l.key = p_key and l.model = p_model for update;
  if not found then
    raise no_data_found using
      message = format('there is no lane %s of %s', lane_name(p_key, p_model), p_provider),
      hint = 'Those there are: select provider, key, model, state from lane_states;';
  end if;
  update lanes l
     set paused_at = null, paused_until = null, reason = null, strikes = 0, probed_at = null, updated_at = clock_timestamp()
   where l.provider = p_provider and l.key = p_key and l.model = p_model;
  return coalesce(v_rested, false);
end $$;

-- Whether an operation that took a place keeps it: while it is being served, and while the run that it
-- started may be going on. A place is given up by what the operation's row says and by nothing else, so
-- none is lost with a dispatcher. One that waits for an operator holds none, nor does one that waits for
-- tool outputs: it takes a place anew when it goes on.
create function holds_place(o thread_operations) returns boolean language sql immutable as $$
  select o.finished_at is null
     and (o.status = 'processing'
          or (o.status = 'pending' and o.ready_at < never()
              and (o.intent ->> 'call' is not distinct from 'start_run'
                   or (o.progress ? 'run_id'
                       and not coalesce(o.progress -> 'failed_run_ids', '[]') ? (o.progress ->> 'run_id')))))
$$;

-- Takes a place for the run that this claim is about to start, in the lane of the key and in that of the
-- model, where they have a maximum. Null: it may start. Else the name of the lane that is full; also
-- where somebody's open transaction holds the lane's row. A claim that was lost takes no place.
create function enter_lane(p_dispatcher text, p_id bigint, p_attempts integer, p_provider text, p_key text, p_model text) returns text
language plpgsql security definer
  set search_path from current set lock_timeout = '500ms' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  v_lane lanes;
begin
  -- One after the other by the lane's row lock, the key's first; each statement below sees all that those
  -- before have committed.
  for v_lane in
    select * from lanes l where l.provider = p_provider and l.key = p_key and l.model in ('', p_model)
     order by l.model for update
  loop
    continue when v_lane.max_runs is null;
    delete from lane_runs r
     where r.provider = p_provider and r.key = p_key and v_lane.model in ('', r.model)
       and not exists (select from thread_operations o where o.id = r.operation_id and holds_place(o));
    if (select count(*) from lane_runs r
         where r.provider = p_provider and r.key = p_key and v_lane.model in ('', r.model)
           and r.operation_id <> p_id) >= v_lane.max_runs then
      return lane_name(p_key, v_lane.model);
    end if;
  end loop;
  insert into lane_runs (operation_id, provider, key, model)
  select o.id, p_provider, p_key, p_model from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts
      on conflict (operation_id) do update set provider = excluded.provider, key = excluded.key, model = excluded.model;
  return null;
exception when lock_not_available or deadlock_detected then
  return lane_name(p_key, p_model);
end $$;

-- For people: every lane that was ever paused or limited, and how it stands.
create view lane_states as
select lane.provider, lane.key, lane.model,
       case when lane.rests then 'resting' when lane.runs >= lane.max_runs then 'full' else 'open' end as state,
       lane.runs, lane.max_runs,
       (select count(*) from thread_operations o
         where o.finished_at is null and o.status = 'pending' and o.provider = lane.provider
           and o.error ->> 'lane' = lane_name(lane.key, lane.model)) as waiting,
       case when lane.rests then lane.paused_at end as paused_at,
       case when lane.rests then lane.paused_until end as paused_until,
       case when lane.rests then lane.reason end as reason,
       lane.strikes,
       case when lane.rests then lane.probed_at end as probed_at
  from (select l.*, coalesce(l.paused_until > clock_timestamp(), false) as rests,
               case when l.max_runs is not null then
                 (select count(*) from lane_runs r join thread_operations o on o.id = r.operation_id and holds_place(o)
                   where r.provider = l.provider and r.key = l.key and l.model in ('', r.model)) end as runs
          from lanes l) as lane;
