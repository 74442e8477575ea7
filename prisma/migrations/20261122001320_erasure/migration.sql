-- Erasure: what operations and archives hold of what was said. The ledger stays; it never held any of it.

-- Empties final operations: data, texts, what they said and what they were asked. What stays are
-- their ids, status and times, how a run ended and what it has used, and the codes of errors. An operation
-- that was emptied is never served again.
create function erase_operations(p_ids bigint[]) returns integer language plpgsql
  set inturn.line = 'on'
as $$
declare
  v_count integer;
begin
  update thread_operations o
     set data = '{}', user_id = null, intent = null, progress = '{"erased": true}',
         result = (select jsonb_object_agg(kept.key, kept.value) from jsonb_each(o.result) as kept
                    where kept.key in ('run', 'usage', 'outcome', 'provider_thread_id', 'message_id', 'merged', 'operation_id', 'archive_id',
                                       'items', 'generation', 'deleted', 'not_deleted')),
         error = o.error || '{"message": "What was said of it was erased."}'
   where o.id = any (p_ids) and o.finished_at is not null;
  get diagnostics v_count = row_count;
  delete from operation_stream s where s.operation_id = any (p_ids);
  delete from tool_calls c where c.operation_id = any (p_ids);
  return v_count;
end $$;

-- Deletes one of these archives with all that it holds. False: there was none.
create function erase_archive(p_archive_id bigint) returns boolean language plpgsql as $$
begin
  delete from archived_messages m where m.archive_id = p_archive_id;
  delete from archived_runs r where r.archive_id = p_archive_id;
  update thread_generations g set archive_id = null
    from thread_archives a
   where a.id = p_archive_id and g.thread_id = a.thread_id and g.archive_id = a.id;
  delete from unfinished_archives u where u.archive_id = p_archive_id;
  delete from thread_archives a where a.id = p_archive_id;
  return found;
end $$;

-- Does a part of what is left to erase of a thread whose conversation was deleted: up to p_limit of its
-- operations, or one archive. `more`: it goes on at once; `waits`: for operations that are not over, or
-- that somebody's transaction holds; `done`.
create function erase_thread(p_thread_id text, p_limit integer) returns text language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_before bigint;
  v_ids bigint[];
  v_archive bigint;
begin
  select t.erase_before into v_before from threads t where t.id = p_thread_id and t.erase_before > 0 for no key update skip locked;
  if not found then
    return 'done';
  end if;
  perform set_config('inturn.actor', session_actor(), true);
  v_ids := array(
    select o.id from thread_operations o
     where o.thread_id = p_thread_id and o.id < v_before and o.finished_at is not null and not coalesce(o.progress ? 'erased', false)
     limit p_limit for update skip locked);
  if v_ids <> '{}' then
    perform erase_operations(v_ids);
    return 'more';
  end if;
  v_archive := coalesce((select a.id from thread_archives a where a.thread_id = p_thread_id limit 1),
                        (select u.archive_id from unfinished_archives u where u.thread_id = p_thread_id limit 1));
  if v_archive is not null then
    perform erase_archive(v_archive);
    return 'more';
  end if;
  if exists (select from thread_operations o
              where o.thread_id = p_thread_id and o.id < v_before and not coalesce(o.progress ? 'erased', false)) then
    return 'waits';
  end if;
  update threads t set erase_before = 0 where t.id = p_thread_id;
  return 'done';
end $$;

-- Goes on with threads of which something is left to erase; gives whether some of it is to be done at once.
create function erase_threads(p_limit integer) returns boolean language plpgsql security definer
  set search_path from current set enable_seqscan = off
as $$
declare
  v_thread text;
  v_more boolean := false;
begin
  for v_thread in select t.id from threads t where t.erase_before > 0 limit p_limit loop
    v_more := erase_thread(v_thread, 1000) = 'more' or v_more;
  end loop;
  return v_more;
end $$;

-- Has all that is known of a person forgotten: deletes the conversations of their threads (threads.user_id),
-- and what their operations hold on threads of others (thread_operations.user_id). Returns the erasure,
-- which dispatchers carry out: the one that is under way where there is one. Its report says what was proved.
create function erase_user(p_user_id text) returns bigint language plpgsql security definer
  set search_path from current set lock_timeout = '2s'
as $$
declare
  v_id bigint;
  v_up_to bigint;
  v_deletions bigint[];
begin
  if p_user_id is null or length(p_user_id) not between 1 and 255 then
    raise check_violation using
      constraint = 'user_id_has_1_to_255_characters',
      message = format('user_id must have 1 to 255 characters, not %s', coalesce(length(p_user_id), 0)),
      hint = 'Write your own id of the person, as in threads.user_id and thread_operations.user_id.';
  end if;
  insert into erasures (user_id, requested_by) values (p_user_id, session_actor()) on conflict do nothing returning id into v_id;
  if v_id is null then
    select e.id into strict v_id from erasures e where e.user_id = p_user_id and e.finished_at is null;
    return v_id;
  end if;
  with inserted as (
    insert into thread_operations (thread_id, operation, data)
    select t.id, 'delete_thread', '{"erase": true}' from threads t where t.user_id = p_user_id
    returning id
  )
  select coalesce(array_agg(i.id), '{}') into v_deletions from inserted i;
  v_up_to := nextval('thread_operations_id_seq');
  update erasures e
     set progress = jsonb_build_object(
           'deletions', to_jsonb(v_deletions), 'up_to', v_up_to, 'xid', null,
           'looked_at', 0, 'unfinished', '[]'::jsonb, 'operations', 0, 'archives', 0, 'others', '[]'::jsonb)
   where e.id = v_id;
  perform pg_notify('inturn_beside', current_schema());
  return v_id;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('an erasure of %s', p_user_id));
end $$;

-- Does the next part of an erasure. `more`: it goes on at once; `waits`: for operations to end, or for
-- transactions that were open when it was asked for; `done`.
create function advance_erasure(p_id bigint, p_limit integer) returns text language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set jit = off set lock_timeout = '1s'
as $$
declare
  v_erasure erasures;
  v_seen record;
  v_ready bigint[];
  v_threads text[];
  v_of_others bigint;
  v_archive bigint;
begin
  select * into v_erasure from erasures e where e.id = p_id and e.finished_at is null for update skip locked;
  if not found then
    return 'done';
  end if;
  perform set_config('inturn.actor', session_actor(), true);
  if v_erasure.progress ->> 'xid' is null then
    -- Drawn now, it is above that of every transaction that has drawn a number below up_to.
    update erasures e set progress = e.progress || jsonb_build_object('xid', pg_current_xact_id()::text) where e.id = p_id;
    return 'more';
  end if;
  if pg_snapshot_xmin(pg_current_snapshot())::text::numeric < (v_erasure.progress ->> 'xid')::numeric then
    return 'waits';
  end if;

  -- All operations there were, in their order, so that no index is needed for what is asked once in a while.
  if (v_erasure.progress ->> 'looked_at')::bigint < (v_erasure.progress ->> 'up_to')::bigint then
    select max(o.id) as last, count(*) as count,
           coalesce(jsonb_agg(o.id) filter (where o.user_id = v_erasure.user_id), '[]') as theirs into v_seen
      from (select l.id, l.user_id from thread_operations l
             where l.id > (v_erasure.progress ->> 'looked_at')::bigint and l.id < (v_erasure.progress ->> 'up_to')::bigint
             order by l.id limit p_limit) as o;
    update erasures e
       set progress = e.progress || jsonb_build_object(
             'looked_at', case when v_seen.count < p_limit then e.progress -> 'up_to' else to_jsonb(v_seen.last) end,
             'unfinished', e.progress -> 'unfinished' || v_seen.theirs)
     where e.id = p_id;
    return 'more';
  end if;

  v_ready := array(
    select o.id from thread_operations o
     where o.id = any (array(select jsonb_array_elements_text(v_erasure.progress -> 'unfinished')::bigint)) and o.finished_at is not null
       -- Whoever takes its message along reads it until he is over.
       and not exists (select from thread_operations m
                        where o.error ->> 'code' = 'merged' and m.id = (o.error ->> 'operation_id')::bigint and m.finished_at is null)
     limit 1000 for update of o skip locked);
  select count(*), coalesce(array_agg(distinct o.thread_id), '{}') into v_of_others, v_threads
    from thread_operations o left join threads t on t.id = o.thread_id
   where o.id = any (v_ready) and t.user_id is distinct from v_erasure.user_id;
  perform erase_operations(v_ready);
  update erasures e
     set progress = e.progress || jsonb_build_object(
           'operations', (e.progress ->> 'operations')::bigint + v_of_others,
           'others', (select coalesce(jsonb_agg(distinct thread.id), '[]') from (
                        select jsonb_array_elements_text(e.progress -> 'others') as id union select unnest(v_threads)) as thread),
           'unfinished', (select coalesce(jsonb_agg(left_over.id), '[]') from (
                            select jsonb_array_elements_text(e.progress -> 'unfinished')::bigint as id) as left_over
                           where exists (select from thread_operations o where o.id = left_over.id)
                             and not left_over.id = any (v_ready)))
   where e.id = p_id and v_erasure.progress -> 'unfinished' <> '[]'
  returning * into v_erasure;
  if v_ready <> '{}' then
    return 'more';
  end if;

  select * into strict v_erasure from erasures e where e.id = p_id;
  select a.id into v_archive from thread_archives a where a.user_id = v_erasure.user_id limit 1;
  if v_archive is not null then
    perform erase_archive(v_archive);
    update erasures e
       set progress = e.progress || jsonb_build_object('archives', (e.progress ->> 'archives')::bigint + 1)
     where e.id = p_id;
    return 'more';
  end if;
  if v_erasure.progress -> 'unfinished' <> '[]'
     or exists (select from thread_operations o
                 where o.id = any (array(select jsonb_array_elements_text(v_erasure.progress -> 'deletions')::bigint)) and o.finished_at is null)
     or exists (select from threads t where t.user_id = v_erasure.user_id and t.erase_before > 0) then
    return 'waits';
  end if;
  update erasures e set report = erasure_report(e), finished_at = clock_timestamp() where e.id = p_id;
  return 'done';
end $$;

-- What was proved and what was not, as it stands now.
create function erasure_report(p_erasure erasures) returns jsonb language sql stable
  set enable_seqscan = on
as $$
  with theirs as (
    select t.id, t.deleted_at, t.created_at, (
             select d.status || coalesce(' (' || (d.error ->> 'code') || ')', '') from thread_operations d
              where d.thread_id = t.id and d.status <> 'completed'
                and d.id = any (array(select jsonb_array_elements_text(p_erasure.progress -> 'deletions')::bigint))) as undone
      from threads t where t.user_id = p_erasure.user_id
  ), generations as (
    select g.*, t.undone from theirs t join thread_generations g on g.thread_id = t.id
  ), not_proved as (
    select format('thread %s', t.id) as what, 'its delete_thread is ' || t.undone as why from theirs t where t.undone is not null
    union all
    select format('provider thread %s of thread %s', g.provider_thread_id, g.thread_id),
           case when g.ended_at is null then 'the thread has begun it since, or its deletion did not come to it'
                else format('no dispatcher that deleted the conversation has settings for the provider %s', g.provider) end
      from generations g where g.proof is null and g.undone is null
    union all
    select format('messages in thread %s', other.id), 'the thread is not theirs: its conversation and its archives stay'
      from jsonb_array_elements_text(p_erasure.progress -> 'others') as other (id)
    union all
    select format('thread %s', copy.thread_id), format('its conversation began with a copy of %s', copy.copied_from)
      from thread_generations copy
     where copy.copied_from in (select g.provider_thread_id from generations g)
       and copy.proof is null and copy.thread_id not in (select t.id from theirs t)
  )
  select jsonb_build_object(
    'user_id', p_erasure.user_id,
    'threads', coalesce((
      select jsonb_agg(jsonb_build_object('thread_id', t.id, 'deleted', coalesce((
               select jsonb_agg(jsonb_build_object('generation', g.generation, 'provider', g.provider, 'provider_thread_id', g.provider_thread_id) || g.proof
                                order by g.generation)
                 from generations g where g.thread_id = t.id and g.proof is not null), '[]')) order by t.id)
        from theirs t), '[]'),
    'operations', (p_erasure.progress ->> 'operations')::bigint + (
      select count(*) from theirs t join thread_operations o on o.thread_id = t.id where o.progress ? 'erased'),
    'archives', p_erasure.progress -> 'archives',
    'not_proved', coalesce((select jsonb_agg(jsonb_build_object('what', n.what, 'why', n.why) order by n.what) from not_proved n), '[]'),
    'not_covered', jsonb_build_array(
      'backups and replicas of this database',
      'what the provider itself keeps of deleted conversations, for as long as its terms say',
      'files that were uploaded to the provider',
      'keys and ids: thread ids, user_id, session_id, topic and idempotency keys stay as you have chosen them'))
$$;
