-- Policies: which row of thread_policies counts for a thread. Looked up anew whenever it matters, so a
-- change takes effect at once.

-- Which of its keys a thread has, in words: `user`, `user+topic`, … or `none`.
create function pattern_of(p_user_id text, p_session_id text, p_topic text) returns text language sql immutable parallel safe as $$
  select coalesce(nullif(concat_ws('+', case when p_user_id is not null then 'user' end,
                                        case when p_session_id is not null then 'session' end,
                                        case when p_topic is not null then 'topic' end), ''), 'none')
$$;

-- The policy of a thread: the one that it names, else that of its pattern, else that of the pattern
-- `any`. No row where there is none. Parsed here and now, because views call it from sessions that look
-- elsewhere for their tables.
create function policy_of(p_policy text, p_user_id text, p_session_id text, p_topic text) returns setof thread_policies
language sql stable rows 1 begin atomic
  select p.* from thread_policies p
   where case when p_policy is not null then p.name = p_policy
              else p.pattern in (pattern_of(p_user_id, p_session_id, p_topic), 'any') end
   order by p.pattern = 'any' limit 1;
end;

create function check_thread_policy() returns trigger language plpgsql security definer set search_path from current as $$
begin
  if not exists (select from thread_policies p where p.name = new.policy) then
    raise check_violation using
      constraint = 'thread_policy_exists',
      message = format('there is no policy %L', new.policy),
      hint = 'Write the name of a row of thread_policies, or null for the policy of the thread''s pattern.';
  end if;
  return new;
end $$;

create trigger check_thread_policy before insert or update of policy on threads
  for each row when (new.policy is not null) execute function check_thread_policy();

-- Threads that name a policy would be left without one.
create function refuse_loss_of_used_policy() returns trigger language plpgsql security definer set search_path from current as $$
declare
  v_thread text := (select t.id from threads t where t.policy = old.name limit 1);
begin
  if v_thread is not null then
    raise check_violation using
      constraint = 'policy_is_not_in_use',
      message = format('policy %L is that of thread %L', old.name, v_thread),
      hint = format('Give its threads another one first: UPDATE threads SET policy = NULL WHERE policy = %L;', old.name);
  end if;
  return coalesce(new, old);
end $$;

create trigger refuse_delete_of_used_policy before delete on thread_policies
  for each row execute function refuse_loss_of_used_policy();
create trigger refuse_rename_of_used_policy before update of name on thread_policies
  for each row when (old.name <> new.name) execute function refuse_loss_of_used_policy();

-- Says what is wrong with a policy, for whoever writes its row by hand.
create function check_policy() returns trigger language plpgsql as $$
declare
  v_shortest interval := least(new.absolute_ttl, new.idle_ttl, new.max_age, new.archive_retention, new.operation_retention);
  v_longest interval := greatest(new.absolute_ttl, new.idle_ttl, new.max_age, new.archive_retention, new.operation_retention);
begin
  if length(new.name) not between 1 and 255 then
    raise check_violation using
      constraint = 'policy_name_has_1_to_255_characters',
      message = format('the name of a policy must have 1 to 255 characters, not %s', length(new.name)),
      hint = 'Write a name of yours, such as ''users''.';
  end if;
  if new.pattern not in ('user', 'session', 'topic', 'user+session', 'user+topic', 'session+topic', 'user+session+topic', 'none', 'any') then
    raise check_violation using
      constraint = 'policy_pattern_is_known',
      message = format('%L is no pattern', left(new.pattern, 60)),
      hint = 'Write the keys that its threads have, of user, session and topic in this order and joined by +, such as ''user+topic''; ''none'' for threads without any, ''any'' for all that have no other policy, or null where threads name it.';
  end if;
  if new.on_expiry not in ('archive_and_delete', 'archive', 'delete') then
    raise check_violation using
      constraint = 'policy_on_expiry_is_known',
      message = format('on_expiry must say what becomes of what has expired, not %L', left(new.on_expiry, 60)),
      hint = 'Write archive_and_delete, archive or delete.';
  end if;
  if v_shortest <= interval '0' or v_longest > interval '1000 years' then
    raise check_violation using
      constraint = 'policy_times_are_positive',
      message = format('a time of a policy must be more than nothing and at most 1000 years, not %s',
                       case when v_shortest <= interval '0' then v_shortest else v_longest end),
      hint = 'Write for example ''30 days'', or null for ever.';
  end if;
  if least(new.max_messages, new.max_tokens) < 1 then
    raise check_violation using
      constraint = 'policy_limits_are_at_least_1',
      message = format('max_messages and max_tokens must be 1 or more, not %s', least(new.max_messages, new.max_tokens)),
      hint = 'Write how many a provider thread may hold before it is rotated, or null for any number.';
  end if;
  if new.carry_over not between 0 and 100 then
    raise check_violation using
      constraint = 'policy_carry_over_is_0_to_100',
      message = format('carry_over must be 0 to 100, not %s', new.carry_over),
      hint = 'Write how many of the last messages the next provider thread begins with.';
  end if;
  if new.carry_over >= new.max_messages then
    raise check_violation using
      constraint = 'policy_carries_over_less_than_it_rotates_at',
      message = format('a provider thread that begins with %s messages is rotated at %s at once', new.carry_over, new.max_messages),
      hint = 'Write a smaller carry_over, or a larger max_messages.';
  end if;
  if tg_op = 'UPDATE' then
    new.updated_at := clock_timestamp();
  end if;
  return new;
end $$;

create trigger check_policy before insert or update on thread_policies
  for each row execute function check_policy();

-- What the sweeps walk: the threads that have a provider thread, by the policy that counts for them and
-- by how long ago they were active or began. last_active_at is written once a minute, so that a busy thread
-- is seldom written here.
create index threads_by_activity on threads (policy, pattern_of(user_id, session_id, topic), last_active_at)
  where provider_thread_id is not null and closed_at is null and lifecycle_operation_id is null;
create index threads_by_generation on threads (policy, pattern_of(user_id, session_id, topic), generation_since)
  where provider_thread_id is not null and closed_at is null and lifecycle_operation_id is null;
