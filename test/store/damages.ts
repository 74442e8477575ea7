import { completeSilently, startSilently } from '../support/served-lines.ts'

export const turn = (n: number) => `thread_id = 'served' and turn = ${n}`
const lastEvent = (n: number) =>
  `id = (select max(id) from operation_events where thread_id = 'served' and turn = ${n})`
export const nth = (thread: string, n: number) =>
  `id = (select id from thread_operations where thread_id = '${thread}' order by id offset ${n - 1} limit 1)`

const generation = (number: number, providerThreadId: string, thread = 'served') =>
  `insert into thread_generations (thread_id, generation, provider, provider_thread_id)
   values ('${thread}', ${number}, 'responses', '${providerThreadId}');`
/** An archive of two messages that says it has so many. */
const archive = (items: number) => `
  insert into thread_archives (id, thread_id, generation, operation_id, provider, provider_thread_id, reason, messages, items, runs, verified_at)
  select 1, 'served', 1, id, 'responses', 'conv_1', 'requested', ${items}, ${items}, 0, now() from thread_operations where ${turn(1)};
  insert into archived_messages (archive_id, position, item_id, type, role, item)
  select 1, n, 'msg_' || n, 'message', 'user', '{}' from generate_series(1, 2) n;`

/** What breaks each invariant; several ways where there are several things to see. */
export const damages: Array<[invariant: string, ...statements: string[]]> = [
  [
    'one_active_operation',
    `drop index one_active_operation_per_thread; ${startSilently('served', 6)}`,
  ],
  ['first_is_marked', `update thread_operations set ready_at = null where ${nth('waiting', 1)}`],
  [
    'only_the_first_is_marked',
    `update thread_operations set ready_at = now() - interval '1 hour' where ${nth('waiting', 2)}`,
  ],
  [
    'place_is_kept',
    `update thread_operations set place = id where ${turn(5)}`,
    `update thread_operations set place = 0 where ${nth('waiting', 1)}`,
    `update thread_operations set place = -id where ${nth('waiting', 1)}`,
    `update thread_operations set place = id + 100 where ${nth('waiting', 2)}`,
  ],
  ['started_stays_first', `${startSilently('retried', 2)} ${completeSilently('retried', 2)}`],
  [
    'turns_are_dense',
    `update operation_events set turn = 7 where ${turn(5)};
     update thread_operations set turn = 7 where ${turn(5)}`,
    `drop index one_operation_per_turn;
     delete from operation_events where ${turn(1)}; delete from thread_operations where ${turn(1)};
     update thread_operations set turn = 2 where thread_id = 'retried' and turn = 1;
     update operation_events set turn = 2 where thread_id = 'retried'`,
    `insert into operation_events (operation_id, thread_id, from_status, to_status, turn, attempt, actor)
     select id, thread_id, step.*, 1, 'd1'
       from thread_operations, (values ('pending', 'processing', 1), ('processing', 'failed', 1), ('failed', 'pending', null)) as step
      where ${nth('retried', 2)};
     update thread_operations set attempts = 1 where ${nth('retried', 2)}`,
  ],
  [
    'turns_are_served_one_after_the_other',
    `with begun as (delete from operation_events where ${turn(3)} and to_status = 'processing' returning *)
     insert into operation_events (id, operation_id, thread_id, from_status, to_status, turn, attempt, actor)
     overriding system value
     select -1, operation_id, thread_id, from_status, to_status, turn, attempt, actor from begun`,
  ],
  [
    'started_at_follows_the_turns',
    `update thread_operations set started_at = started_at - interval '1 hour' where ${turn(3)}`,
  ],
  [
    'who_was_the_head_was_not_passed',
    `insert into threads (id) values ('waiting');
     update thread_operations set created_at = created_at - interval '2 hours', head_since = created_at - interval '1 hour' where ${nth('waiting', 1)};
     ${startSilently('waiting', 1, 2)} ${completeSilently('waiting', 1)}`,
  ],
  [
    'ledger_is_connected',
    `update operation_events set from_status = 'requires_action' where ${lastEvent(1)}`,
    `insert into operation_events (operation_id, thread_id, from_status, to_status, attempt, actor)
     select id, thread_id, 'cancelled', 'cancelled', 0, 'd1' from thread_operations where thread_id = 'withdrawn'`,
  ],
  [
    'ledger_counts_the_attempts',
    `update operation_events set attempt = 0 where ${turn(1)} and to_status = 'processing'`,
  ],
  [
    'ledger_ends_in_the_present',
    `delete from operation_events where ${lastEvent(4)}`,
    `delete from thread_operations where thread_id = 'retried'`,
    `update thread_operations set attempts = 2 where ${turn(5)}`,
  ],
  [
    'row_fits_its_status',
    `update thread_operations set claimed_by = 'd1' where ${turn(1)}`,
    `update thread_operations set finished_at = null where thread_id = 'withdrawn'`,
    `update thread_operations set started_at = null where ${turn(5)}`,
    `update thread_operations set ready_at = now() where ${turn(5)}`,
  ],
  [
    'results_are_there',
    `update thread_operations set result = '{}' where ${turn(1)}`,
    `update thread_operations set result = result - 'run' where ${turn(2)}`,
    `update thread_operations set result = jsonb_set(result, '{run,status}', '"queued"') where ${turn(2)}`,
    `insert into thread_operations (id, thread_id, operation, status, finished_at)
     values (999, 'served', 'cancel_run', 'completed', now());
     insert into operation_events (operation_id, thread_id, from_status, to_status, attempt, actor)
     values (999, 'served', 'pending', 'completed', 0, 'd1')`,
    `update thread_operations set error = null where ${turn(3)}`,
    `update thread_operations set error = '{"message": "?"}' where ${turn(4)}`,
  ],
  ['started_threads_exist', `delete from threads where id = 'served'`],
  [
    'provider_is_known',
    `update thread_operations set provider = 'azure' where ${nth('waiting', 1)}`,
    `update thread_operations set provider = '' where ${turn(5)}`,
  ],
  [
    'cancellations_are_heard',
    `insert into thread_operations (id, thread_id, operation) values (999, 'nobody', 'cancel_run')`,
    `insert into thread_operations (id, thread_id, operation, target_id)
     select 999, thread_id, 'cancel_run', id from thread_operations where ${turn(1)}`,
  ],
  ['claims_have_living_owners', `delete from dispatchers`],
  [
    'who_requires_action_waits_for_something',
    `update thread_operations set status = 'requires_action', claimed_by = null, ready_at = now() + interval '1 hour' where ${turn(5)};
     insert into operation_events (operation_id, thread_id, from_status, to_status, turn, attempt, actor)
     select id, thread_id, 'processing', 'requires_action', turn, 1, 'd1' from thread_operations where ${turn(5)}`,
  ],
  [
    'open_calls_have_somebody_to_read_them',
    ...['1', '999'].map(
      (id) =>
        `insert into tool_calls (operation_id, call_id, thread_id, round, type, name, arguments, deadline)
         values (${id}, 'a', 'served', 1, 'function_call', 'f', '{}', now())`,
    ),
  ],
  [
    'outcomes_are_settled',
    `insert into unsettled_outcomes (operation_id, attempts, claimed_by, outcome)
     select id, 1, 'd1', '{"attempts": 1, "status": "completed", "result": {"message_id": "msg_5"}}'
       from thread_operations where ${turn(5)}`,
    `insert into unsettled_outcomes (operation_id, attempts, claimed_by, outcome) values (999, 1, 'd1', '{}')`,
  ],
  [
    'waiters_have_somebody_to_wait_for',
    `insert into operation_waiters (operation_id, waiter) select id, 'somebody' from thread_operations where ${turn(1)}`,
    `insert into operation_waiters (operation_id, waiter) values (999, 'somebody')`,
  ],
  [
    'provider_threads_have_a_generation',
    `update threads set provider_thread_id = 'conv_1', generation = 1 where id = 'served'`,
    `${generation(1, 'conv_2')} update threads set provider_thread_id = 'conv_1', generation = 1 where id = 'served'`,
  ],
  [
    'only_the_current_generation_is_open',
    `${generation(1, 'conv_1')} update threads set generation = 1 where id = 'served'`,
    `${generation(1, 'conv_1')} ${generation(2, 'conv_2')}
     update threads set generation = 2, provider_thread_id = 'conv_2' where id = 'served'`,
    generation(1, 'conv_1', 'nobody'),
  ],
  [
    'generation_is_the_highest',
    `${generation(3, 'conv_3')} update thread_generations set ended_at = now(), ended_by = 'rotated'`,
  ],
  [
    'one_thread_per_provider_thread',
    ['served', 'retried']
      .map(
        (thread) => `${generation(1, 'conv_1', thread)}
          update threads set provider_thread_id = 'conv_1', generation = 1 where id = '${thread}';`,
      )
      .join(''),
  ],
  [
    'archives_are_complete',
    archive(3),
    `${archive(2)} update archived_messages set position = 3 where position = 2`,
  ],
  ['archived_messages_are_of_an_archive', `${archive(2)} delete from thread_archives`],
  [
    'archives_of_generations_exist',
    `${generation(1, 'conv_1')}
     update thread_generations set ended_at = now(), ended_by = 'rotated', archive_id = 7; update threads set generation = 1 where id = 'served'`,
  ],
  [
    'deletions_are_proved',
    `${generation(1, 'conv_1')}
     update thread_generations set ended_at = now(), ended_by = 'deleted'; update threads set generation = 1 where id = 'served'`,
  ],
  [
    'sweeps_wait_for_their_own_operation',
    `update threads set lifecycle_operation_id = (select id from thread_operations where ${nth('waiting', 1)}) where id = 'served'`,
  ],
  [
    'no_copy_is_left',
    `update thread_operations set progress = '{"copying": {"provider_thread_id": "conv_1"}}' where ${turn(1)}`,
  ],
]
