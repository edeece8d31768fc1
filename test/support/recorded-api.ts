/** The recorded traffic of a real API server: what it listed, and every event that came after, in order of arrival. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ApiObject, ApiServer, EventType, Resource } from './api-server.ts'

const FOLDER = join(process.cwd(), 'test/fixtures/api')

function read(name: string): unknown {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8'))
}

interface RecordedList {
  readonly body: {
    readonly metadata: { readonly resourceVersion: string }
    readonly items: readonly ApiObject[]
  }
}
interface RecordedWatch {
  readonly lines: readonly { readonly ms: number; readonly line: string }[]
}

export interface RecordedEvent {
  readonly resource: Resource
  readonly ms: number
  readonly line: string
}

/** Loads the lists into a stand-in. */
export function loadRecorded(server: ApiServer): void {
  for (const resource of ['services', 'endpointslices'] as const) {
    const { metadata, items } = (read(`${resource}.list`) as RecordedList).body
    server.load(resource, items, Number(metadata.resourceVersion))
  }
  server.load('nodes', [(read('node.get') as { body: ApiObject }).body])
}

/** Events of both watches but bookmarks, by the time at which they came. */
export function recordedEvents(): RecordedEvent[] {
  const of = (resource: Resource): RecordedEvent[] =>
    (read(`${resource}.watch`) as RecordedWatch).lines.map(({ ms, line }) => ({ resource, ms, line }))
  return [...of('services'), ...of('endpointslices')]
    .filter(({ line }) => !line.includes('"type":"BOOKMARK"'))
    .sort((a, b) => a.ms - b.ms)
}

export function emitRecorded(server: ApiServer, { resource, line }: RecordedEvent): void {
  const { type, object } = JSON.parse(line) as { type: EventType; object: ApiObject }
  server.emit(resource, type, object, line)
}

/** The status and body of a recorded answer. */
export function recordedAnswer(name: string): { readonly status: number; readonly body: unknown } {
  return read(name) as { status: number; body: unknown }
}

/** The one event of a watch whose resource version is too old. */
export function recordedExpiry(): string {
  return (read('services.watch-expired') as RecordedWatch).lines[0]!.line
}
