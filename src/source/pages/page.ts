/** A page of a list of the API server: from its body to facts. */
import { constants, gunzipSync, type ZlibOptions } from 'node:zlib'
import type { Facts, Parsed, Resource } from '../../model/facts/facts.ts'
import { PARSERS } from '../../model/facts/parse-facts.ts'

/** The body of an answer, as it came. */
export interface Body {
  readonly bytes: Uint8Array
  readonly isZipped: boolean
}

/** What a page says of its list. */
export interface PageHead {
  readonly resourceVersion: string | undefined
  /** Asks for the next page; undefined: there is none. */
  readonly continue: string | undefined
  readonly objects: number
  /** Of the text. */
  readonly length: number
}

export interface Page<Fact> {
  readonly head: PageHead
  readonly facts: Promise<readonly Parsed<Fact>[]>
}

/** Reads a page of a resource. Throws when it cannot be read. */
export type ReadPage = <R extends Resource>(resource: R, body: Body) => Promise<Page<Facts[R]>>

/** In large pieces; what was cut off is told by the response, not by its last bytes. */
const GUNZIP: ZlibOptions = { chunkSize: 512 * 1024, finishFlush: constants.Z_SYNC_FLUSH }

/** The text of a body. Throws when it is not what it says to be. */
export function textOf({ bytes, isZipped }: Body): string {
  return new TextDecoder().decode(isZipped ? gunzipSync(bytes, GUNZIP) : bytes)
}

interface List {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string }
  readonly items?: readonly unknown[] | null
}

/** Parses a page; `facts` are parsed when they are asked for. Throws when the body is no JSON. */
export function parsePage<R extends Resource>(
  resource: R,
  body: Body,
): { readonly head: PageHead; readonly facts: () => Parsed<Facts[R]>[] } {
  const text = textOf(body)
  const { metadata, items } = JSON.parse(text) as List
  const head: PageHead = {
    resourceVersion: metadata?.resourceVersion,
    continue: metadata?.continue === '' ? undefined : metadata?.continue,
    objects: items?.length ?? 0,
    length: text.length,
  }
  return { head, facts: () => (items ?? []).map(PARSERS[resource]) }
}
