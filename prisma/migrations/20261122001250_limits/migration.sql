-- Hard limits: where a provider refuses further messages, threads are told of in time.

-- How many messages a provider thread may hold there. Null: any number, as far as is known. The profiles of
-- src/provider/profiles.ts say the same.
create function messages_limit(p_provider text) returns bigint language sql immutable parallel safe as $$
  select case p_provider when 'assistants' then 100000 end
$$;

-- What to tell people of a thread whose provider thread holds p_messages, and that is rotated at
-- p_max_messages. Null: nothing. Parsed here and now, for views.
create function thread_warning(p_provider text, p_messages bigint, p_max_messages bigint) returns text
language sql immutable parallel safe begin atomic
  select format('%s of the %s messages that the provider takes: rotate_thread begins anew, and max_messages of a policy has it done in time',
                p_messages, messages_limit(p_provider))
   where p_messages >= 0.8 * messages_limit(p_provider)
     and coalesce(p_max_messages, 9223372036854775807) > messages_limit(p_provider);
end;

-- Threads that were active since then and come near to the limit of their provider.
create function threads_near_limit(p_since timestamptz) returns table (thread_id text, messages bigint, warning text)
language plpgsql stable security definer
  set search_path from current set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
  set enable_material = off set jit = off
as $$
declare
  v_way record;
begin
  for v_way in select w.named, w.pattern, (w.policy).max_messages from policy_ways() w loop
    return query execute format($walk$
      select t.id, held.messages, thread_warning(t.provider, held.messages, $4)
        from threads t
        join thread_generations g on g.thread_id = t.id and g.generation = t.generation
       cross join lateral (
         select so_far.messages - g.messages_before + g.carried_over as messages
           from thread_totals(t.id, 9223372036854775807) as so_far) as held
       where t.provider_thread_id is not null and t.closed_at is null and t.lifecycle_operation_id is null
         and %s and pattern_of(t.user_id, t.session_id, t.topic) = $2 and t.last_active_at >= $3
         and messages_limit(t.provider) is not null
         and thread_warning(t.provider, held.messages, $4) is not null
      $walk$, case when v_way.named is null then 't.policy is null' else 't.policy = $1' end)
      using v_way.named, v_way.pattern, p_since, v_way.max_messages;
  end loop;
end $$;
