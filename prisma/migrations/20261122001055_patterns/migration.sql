-- Patterns: one thread per user, per session, per topic. The keys make the id, so that the primary key
-- alone sees to it that there is one row, whoever asks and however many at once.

-- A key as a part of an id: `:` stands between the parts, and `%` before what stands for them.
create function thread_key_part(p_key text) returns text language sql immutable parallel safe begin atomic
  select replace(replace(p_key, '%', '%25'), ':', '%3A');
end;

-- The id of the thread with these keys: `user:42`, `user:42:topic:billing`, `session:9`. Null without any.
create function thread_key(p_user_id text default null, p_session_id text default null, p_topic text default null)
returns text language sql immutable parallel safe begin atomic
  select nullif(concat_ws(':', 'user:' || thread_key_part(p_user_id), 'session:' || thread_key_part(p_session_id),
                          'topic:' || thread_key_part(p_topic)), '');
end;

-- Labels with some of them changed; what is null in the changes is taken out.
create function merged_labels(p_labels jsonb, p_changes jsonb) returns jsonb language sql immutable parallel safe begin atomic
  select case when jsonb_typeof(p_changes) <> 'object' then p_changes -- which the check of the table refuses
              else coalesce((select jsonb_object_agg(l.key, l.value) from jsonb_each(coalesce(p_labels, '{}') || p_changes) as l
                              where l.value <> 'null'), '{}') end;
end;

-- Says what is wrong with the keys and labels of a thread.
create function check_thread_keys(p_user_id text, p_session_id text, p_topic text, p_labels jsonb) returns void language plpgsql as $$
declare
  v_id text := thread_key(p_user_id, p_session_id, p_topic);
begin
  if length(p_user_id) not between 1 and 255 or length(p_session_id) not between 1 and 255 or length(p_topic) not between 1 and 255 then
    raise check_violation using
      constraint = 'thread_keys_have_1_to_255_characters',
      message = 'the user_id, session_id and topic of a thread must have 1 to 255 characters each',
      hint = 'Write an id or a name of yours as text, and null for a key that the thread does not have.';
  end if;
  if length(v_id) > 255 then
    raise check_violation using
      constraint = 'thread_id_has_1_to_255_characters',
      message = format('the keys make an id of %s characters, and it must have 1 to 255', length(v_id)),
      hint = 'Write shorter keys. Each ":" and "%" in a key takes three characters of the id.';
  end if;
  if jsonb_typeof(p_labels) <> 'object' then
    raise check_violation using
      constraint = 'thread_labels_are_an_object',
      message = format('labels must be an object, not %s', jsonb_typeof(p_labels)),
      hint = 'Write for example ''{"team": "red"}''.';
  end if;
end $$;

-- The thread with these keys, whose row is written by whoever asks first. Labels are for a new row; one
-- that is there stays as it is, except that a row without any key (an operation or a caller has made it by
-- its id) gets these. Waits two seconds at most for somebody who is writing the same row.
create function get_thread(
  p_user_id text default null, p_session_id text default null, p_topic text default null, p_labels jsonb default '{}')
returns threads language plpgsql security definer
  set search_path from current set lock_timeout = '2s' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
  v_id text := thread_key(p_user_id, p_session_id, p_topic);
  v_thread threads;
begin
  if v_id is null then
    raise check_violation using
      constraint = 'thread_has_a_key',
      message = 'a thread is found by its user_id, session_id or topic, and none of them was given',
      hint = 'Write for example SELECT id FROM get_thread(p_user_id => ''42'', p_topic => ''billing'');';
  end if;
  perform check_thread_keys(p_user_id, p_session_id, p_topic, p_labels);
  loop
    select * into v_thread from threads t where t.id = v_id;
    if not found then
      insert into threads (id, user_id, session_id, topic, labels)
      values (v_id, p_user_id, p_session_id, p_topic, merged_labels('{}', coalesce(p_labels, '{}')))
          on conflict (id) do nothing returning * into v_thread;
    elsif num_nonnulls(v_thread.user_id, v_thread.session_id, v_thread.topic) = 0 then
      update threads t set user_id = p_user_id, session_id = p_session_id, topic = p_topic
       where t.id = v_id and num_nonnulls(t.user_id, t.session_id, t.topic) = 0 returning * into v_thread;
    end if;
    -- Else somebody else has written it, or deleted it, between two of these statements.
    if found then
      return v_thread;
    end if;
  end loop;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('thread %s', v_id));
end $$;
