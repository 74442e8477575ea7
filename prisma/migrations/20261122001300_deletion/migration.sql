-- Deletion: how the conversation of a thread is ended for good, in the name of the operation that does
-- it. Nothing here is done twice, whoever repeats it, and a dispatcher that lost its claim does nothing.

create function deletion_proof(g thread_generations) returns jsonb language sql immutable as $$
  select case when g.proof is not null then
    jsonb_build_object('generation', g.generation, 'provider_thread_id', g.provider_thread_id) || g.proof end
$$;

-- What is to be known before a provider thread is deleted: whether it was seen to be gone already, and
-- since when nothing of ours was written to it. No row where the thread never had such a generation.
create function deletion_facts(
  p_id bigint, p_generation integer, out provider text, out proof jsonb, out quiet_since timestamptz)
returns setof record language sql stable rows 1
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
  select g.provider, deletion_proof(g),
         coalesce(g.ended_at, (
           select greatest(before.finished_at, g.started_at) from thread_operations before
            where before.thread_id = o.thread_id and before.turn < o.turn order by before.turn desc limit 1), g.started_at)
    from thread_operations o join thread_generations g on g.thread_id = o.thread_id and g.generation = p_generation
   where o.id = p_id
$$;

-- Begins to delete the conversation: from now on the operation is not cancelled any more, and with
-- p_closes no operation joins the line. p_facts is what is to stay as it was decided. Gives what is noted of it as
-- progress. Null: the claim is lost.
create function begin_deletion(p_dispatcher text, p_id bigint, p_attempts integer, p_closes boolean, p_facts jsonb)
returns jsonb language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_operation thread_operations;
  v_noted jsonb;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  v_noted := jsonb_build_object('deleting', coalesce(
    v_operation.progress -> 'deleting', jsonb_build_object('at', clock_timestamp()) || p_facts));
  if p_closes then
    update threads t set closed_at = clock_timestamp(), updated_at = clock_timestamp()
     where t.id = v_operation.thread_id and t.closed_at is null;
  end if;
  update thread_operations o set progress = coalesce(o.progress, '{}') || v_noted where o.id = p_id;
  return v_noted;
end $$;

-- Writes down that a provider thread was seen to be gone, and how many items were deleted before it.
-- Gives the proof, the first one where there is one. Null: the claim is lost.
create function note_deletion(p_dispatcher text, p_id bigint, p_attempts integer, p_generation integer, p_items bigint)
returns jsonb language plpgsql security definer
  set search_path from current set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_thread text;
  v_generation thread_generations;
begin
  select o.thread_id into v_thread from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts;
  update thread_generations g
     set deleted_at = coalesce(g.deleted_at, clock_timestamp()),
         proof = coalesce(g.proof, jsonb_build_object('items', p_items, 'gone_at', clock_timestamp()))
   where g.thread_id = v_thread and g.generation = p_generation
  returning * into v_generation;
  return deletion_proof(v_generation);
end $$;
