import type pg from 'pg'
import type { Database } from '../db/query.ts'
import type { OperationStatus } from '../model/operation.ts'
import type { LoggedEvent } from '../model/stream-event.ts'
import { jsonbText } from './jsonb-text.ts'

/** Something to be appended to a stream, in the name of a claim. */
export type Piece = {
  dispatcherId: string
  operationId: number
  attempts: number
  events: readonly LoggedEvent[]
}

/**
 * Appends to any number of streams in one statement. By operation: true where the piece is there, false
 * where it may be tried again; an operation that is not among them is somebody else's by now.
 */
export async function appendToStreams(
  pool: pg.Pool,
  pieces: readonly Piece[],
): Promise<Map<number, boolean>> {
  const { rows } = await pool.query({
    text: 'select id, written from append_to_streams($1, $2, $3, $4)',
    values: [
      pieces.map(({ dispatcherId }) => dispatcherId),
      pieces.map(({ operationId }) => operationId),
      pieces.map(({ attempts }) => attempts),
      pieces.map(({ events }) => jsonbText(events)),
    ],
  })
  return new Map(rows.map(({ id, written }) => [id, written]))
}

/** All that is written down of an operation, oldest first. */
export async function readLoggedEvents(pool: pg.Pool, id: number): Promise<LoggedEvent[]> {
  const { rows } = await pool.query(
    'select events from operation_stream where operation_id = $1 order by first_seq',
    [id],
  )
  return rows.flatMap(({ events }) => events)
}

/** Deletes up to `limit` streams of operations that were over `retentionMs` ago; returns how many. */
export async function deleteOldStreams(
  pool: pg.Pool,
  retentionMs: number,
  limit: number,
): Promise<number> {
  const { rows } = await pool.query('select delete_old_streams($1, $2) as count', [
    retentionMs,
    limit,
  ])
  return rows[0].count
}

/** Somebody who reads the stream of an operation, and the number that he wants next. */
export type Reading = { operationId: number; next: number }

/** How an operation stands, and what its stream holds from the number on that was asked for. */
export type StreamView = {
  status: OperationStatus
  finishedAt: Date | null
  events: Array<LoggedEvent & { seq: number; at: Date }>
  /** There is more than one look shows. */
  isMore: boolean
}

/** Most pieces of one stream that one look shows. */
const piecesAtOnce = 100

/** Looks into any number of streams in one statement; null for an operation that does not exist. */
export async function readStreams(
  { query, schema }: Database,
  readings: readonly Reading[],
): Promise<Array<StreamView | null>> {
  const rows = await query(
    // The status and the pieces are of one snapshot: all that was written before the end is there.
    // The piece that holds the number asked for begins before it where a reader comes back.
    `select o.status, o.finished_at,
            (select coalesce(jsonb_agg(jsonb_build_object('seq', p.first_seq, 'at', extract(epoch from p.at) * 1000, 'events', p.events)
                                       order by p.first_seq), '[]')
               from (select s.first_seq, s.at, s.events from ${schema}.operation_stream s
                      where s.operation_id = r.id and s.last_seq >= r.next
                        and s.first_seq >= coalesce((
                              select c.first_seq from ${schema}.operation_stream c
                               where c.operation_id = r.id and c.first_seq <= r.next
                               order by c.first_seq desc limit 1), r.next)
                      order by s.first_seq limit ${piecesAtOnce}) as p) as pieces
       from unnest($1::bigint[], $2::bigint[]) with ordinality as r (id, next, n)
       left join ${schema}.thread_operations o on o.id = r.id
      order by r.n`,
    [readings.map(({ operationId }) => operationId), readings.map(({ next }) => next)],
  )
  return rows.map(({ status, finished_at, pieces }, index) => {
    if (status === null) return null
    const { next } = readings[index] as Reading
    return {
      status,
      finishedAt: finished_at && new Date(finished_at),
      events: (pieces as StoredPiece[])
        .flatMap(({ seq, at, events }) =>
          events.map((event, i) => ({ ...event, seq: seq + i, at: new Date(at) })),
        )
        .filter(({ seq }) => seq >= next),
      isMore: pieces.length === piecesAtOnce,
    }
  })
}

type StoredPiece = { seq: number; at: number; events: LoggedEvent[] }
