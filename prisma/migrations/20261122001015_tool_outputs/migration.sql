-- submit_tool_outputs: anybody answers calls, all of a round at once or one by one. What can be told at
-- the INSERT is refused there, without a lock; the outputs are written afterwards, by any dispatcher.

-- Refuses outputs that nobody waits for, as far as is visible at the INSERT.
create function check_tool_outputs(p_row thread_operations) returns void language plpgsql as $$
declare
  v_provider text;
  v_given text[];
  v_wrong text[];
  v_open text;
  v_other bigint;
begin
  select o.provider into v_provider from thread_operations o where o.id = p_row.target_id;
  select array_agg(entry ->> 'call_id') filter (where is_fine), array_agg(n) filter (where is_fine is not true)
    into v_given, v_wrong
    from (select entry, n, case when jsonb_typeof(entry) = 'object' then
                   entry - '{call_id,output}'::text[] = '{}' and jsonb_typeof(entry -> 'call_id') = 'string' and entry ->> 'call_id' <> ''
                   and case jsonb_typeof(entry -> 'output')
                         when 'string' then true
                         when 'array' then v_provider is distinct from 'assistants' and entry -> 'output' <> '[]'
                           and not jsonb_path_exists(entry -> 'output', 'strict $[*] ? (@.type() != "object")')
                       end end as is_fine
            from jsonb_array_elements(p_row.data -> 'outputs') with ordinality as given (entry, n)) as checked;
  if v_wrong <> '{}' then
    raise check_violation using
      constraint = 'tool_outputs_are_well_formed',
      message = format('entry %s of outputs is not of the form {"call_id": …, "output": …}', v_wrong[1]),
      hint = case when v_provider = 'assistants' then 'Write the output as text: {"outputs": [{"call_id": "call_1", "output": "21 degrees"}]}.'
        else 'Write the output as text, {"outputs": [{"call_id": "call_1", "output": "21 degrees"}]}, or as a list of content parts.' end;
  end if;
  v_wrong := array(select g.call_id from unnest(v_given) as g (call_id) group by 1 having count(*) > 1);
  if v_wrong <> '{}' then
    raise check_violation using
      constraint = 'call_is_answered_once',
      message = format('call %s has two outputs', v_wrong[1]),
      hint = 'Write one entry per call.';
  end if;

  select string_agg(format('%s (%s)', c.call_id, c.name), ', ' order by c.created_at) into v_open
    from tool_calls c where c.operation_id = p_row.target_id and c.output is null;
  v_wrong := array(select g.call_id from unnest(v_given) as g (call_id)
                    where not exists (select from tool_calls c where c.operation_id = p_row.target_id and c.call_id = g.call_id));
  if v_open is null and cardinality(v_wrong) = cardinality(v_given) then
    raise check_violation using
      constraint = 'thread_requires_action',
      message = format('no operation of thread %s requires action', p_row.thread_id),
      hint = 'What waits for an output: SELECT thread_id, call_id, name, arguments FROM tool_calls WHERE output IS NULL;';
  end if;
  if v_wrong <> '{}' then
    raise check_violation using
      constraint = 'call_was_asked',
      message = format('operation %s did not ask for %s', p_row.target_id, array_to_string(v_wrong, ', ')),
      hint = 'Open are: ' || coalesce(v_open, 'none') || '.';
  end if;
  v_wrong := array(select c.call_id from tool_calls c
                    where c.operation_id = p_row.target_id and c.call_id = any (v_given) and c.output is not null);
  if v_wrong <> '{}' then
    raise check_violation using
      constraint = 'call_is_answered_once',
      message = format('call %s of operation %s is answered already', array_to_string(v_wrong, ', '), p_row.target_id),
      hint = 'Open are: ' || coalesce(v_open, 'none') || '.';
  end if;
  select o.id, entry ->> 'call_id' into v_other, v_open
    from thread_operations o, jsonb_array_elements(o.data -> 'outputs') as given (entry)
   where o.target_id = p_row.target_id and o.status = 'pending' and o.place is null
     and o.operation = 'submit_tool_outputs' and entry ->> 'call_id' = any (v_given)
   limit 1;
  if found then
    raise check_violation using
      constraint = 'call_is_answered_once',
      message = format('operation %s answers call %s already', v_other, v_open),
      hint = format('To answer it otherwise, cancel that one first, if it is still pending: UPDATE thread_operations SET status = ''cancelled'' WHERE id = %s;', v_other);
  end if;
end $$;

-- Writes the outputs down that were submitted, in the order of their ids, and has those operations go on
-- that have all of theirs. What somebody's transaction holds is left for later. A row of which no call
-- was open any more fails; result.ignored names those of another that were answered before.
create function apply_tool_outputs(p_dispatcher text) returns boolean language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set lock_timeout = '20ms'
as $$
declare
  v_row thread_operations;
  v_target_id bigint;
  v_status text;
  v_given text[];
  v_open text[];
  v_goes_on boolean := false;
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  for v_row in
    select * from thread_operations o
     where o.status = 'pending' and o.place is null and o.operation = 'submit_tool_outputs'
     order by o.id limit 1000 for update skip locked
  loop
    select o.id, o.status into v_target_id, v_status from thread_operations o where o.id = v_row.target_id for update skip locked;
    continue when v_target_id is null and exists (select from thread_operations o where o.id = v_row.target_id);
    -- Whoever changed the row since its INSERT need not have been as careful.
    v_given := array(select entry ->> 'call_id' from jsonb_array_elements(v_row.data -> 'outputs') as given (entry)
                      where jsonb_typeof(entry -> 'output') in ('string', 'array'));
    v_open := array(select c.call_id from tool_calls c
                     where c.operation_id = v_target_id and c.call_id = any (v_given) and c.output is null
                     order by c.created_at for update skip locked);
    continue when exists (select from tool_calls c
                           where c.operation_id = v_target_id and c.call_id = any (v_given) and not c.call_id = any (v_open)
                             and c.output is null);
    update tool_calls c
       set output = given.entry -> 'output', answered_by = v_row.created_by, answered_at = clock_timestamp()
      from jsonb_array_elements(v_row.data -> 'outputs') as given (entry)
     where c.operation_id = v_target_id and c.call_id = given.entry ->> 'call_id' and c.call_id = any (v_open);
    if v_open = '{}' then
      update thread_operations o
         set status = 'failed', finished_at = clock_timestamp(),
             error = jsonb_build_object('code', 'calls_are_answered', 'operation_id', v_row.target_id, 'message',
                       format('Operation %s (%s) waits for none of these calls any more.', v_row.target_id, coalesce(v_status, 'gone')))
       where o.id = v_row.id;
    else
      update thread_operations o
         set status = 'completed', finished_at = clock_timestamp(),
             result = jsonb_build_object('operation_id', v_target_id, 'call_ids', to_jsonb(v_open),
               'missing', array(select c.call_id from tool_calls c
                                 where c.operation_id = v_target_id and c.output is null order by c.created_at))
               || case when cardinality(v_open) < cardinality(v_given) then jsonb_build_object('ignored',
                    array(select g.call_id from unnest(v_given) as g (call_id) where not g.call_id = any (v_open))) else '{}' end
       where o.id = v_row.id;
      v_goes_on := go_on_where_answered(array[v_target_id]) or v_goes_on;
    end if;
    perform notify_waiters(array[v_row.id]);
  end loop;
  return v_goes_on;
end $$;
