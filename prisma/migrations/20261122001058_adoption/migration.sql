-- Adoption: provider threads that were there before become threads of ours, under their own ids.

-- Asks for provider threads to be adopted, each by a create_thread that looks at it, behind all that is
-- served at the usual priority. Returns those that were not asked for before. Without p_provider the shape
-- of each id tells. Keys and labels are for all of them, and change nothing that a row has already.
create function adopt_threads(
  p_provider text, p_provider_thread_ids text[], p_user_id text default null, p_session_id text default null,
  p_topic text default null, p_labels jsonb default '{}')
returns table (thread_id text, operation_id bigint) language plpgsql security definer
  set search_path from current set lock_timeout = '2s'
as $$
#variable_conflict use_column
declare
  v_wrong text;
begin
  if p_provider not in ('responses', 'assistants') then
    raise check_violation using
      constraint = 'thread_provider_is_known',
      message = format('there is no provider %L', p_provider),
      hint = 'Write ''responses'', ''assistants'', or null where the shape of each id tells.';
  end if;
  perform check_thread_keys(p_user_id, p_session_id, p_topic, p_labels);
  v_wrong := (select left(coalesce(given.id, 'null'), 60)
                from unnest(p_provider_thread_ids) as given (id)
               cross join lateral nullif(provider_of(given.id, '', '{}', null), '') as by_shape
               where (given.id ~ '^\S{1,255}$' and coalesce(by_shape, p_provider) = coalesce(p_provider, by_shape)) is not true
               limit 1);
  if v_wrong is not null then
    raise check_violation using
      constraint = 'provider_thread_id_is_one',
      message = format('%L is no id of a provider thread%s', v_wrong, coalesce(' of ' || p_provider, '')),
      hint = 'Write the ids that the provider gave: conv_… of responses, thread_… of assistants; with their provider where they look otherwise.';
  end if;
  if num_nonnulls(p_user_id, p_session_id, p_topic) > 0 or p_labels <> '{}' then
    -- In one order, so that no two of these wait for each other.
    insert into threads (id, user_id, session_id, topic, labels)
    select distinct given.id, p_user_id, p_session_id, p_topic, merged_labels('{}', p_labels)
      from unnest(p_provider_thread_ids) as given (id) order by given.id
        on conflict (id) do update
           set user_id = coalesce(threads.user_id, excluded.user_id),
               session_id = coalesce(threads.session_id, excluded.session_id),
               topic = coalesce(threads.topic, excluded.topic),
               labels = excluded.labels || threads.labels;
  end if;
  return query
    insert into thread_operations (thread_id, operation, data, priority, idempotency_key)
    select given.id, 'create_thread',
           jsonb_build_object('provider', provider_of(given.id, '', '{}', p_provider), 'provider_thread_id', given.id), -10, 'adopt'
      from (select g.id, min(g.n) as n from unnest(p_provider_thread_ids) with ordinality as g (id, n) group by g.id) as given
     order by given.n
        on conflict (thread_id, idempotency_key) where idempotency_key is not null do nothing
    returning thread_id, id;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked('one of these threads');
end $$;

-- Makes a provider thread that of the thread whose operation it is; held is false where the claim is lost.
-- in_use_by: another thread that has it; two lines on one conversation would race, so nothing was changed.
-- One after the other for one provider thread, so that no two adopt it at once. Where somebody's open
-- transaction holds the row, it says so: come back.
create function adopt_provider_thread(
  p_dispatcher text, p_id bigint, p_attempts integer, p_provider_thread_id text, out held boolean, out in_use_by text)
language plpgsql security definer
  set search_path from current set lock_timeout = '500ms' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
  v_thread text;
begin
  perform pg_advisory_xact_lock(hashtextextended(current_schema() || ' inturn provider thread ' || p_provider_thread_id, 0));
  select o.thread_id into v_thread from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts;
  held := found;
  in_use_by := (select t.id from threads t where t.provider_thread_id = p_provider_thread_id and t.id <> v_thread limit 1);
  if held and in_use_by is null then
    perform from threads t where t.id = v_thread for no key update nowait;
    update threads t set provider_thread_id = p_provider_thread_id, last_item_id = null, last_message_at = null, updated_at = clock_timestamp()
     where t.id = v_thread and t.provider_thread_id is distinct from p_provider_thread_id
       and exists (select from thread_operations o where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts);
  end if;
end $$;
