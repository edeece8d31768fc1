/** What all objects of the API have in common, for their parsers. */
import { type Cidr, parseCidr } from '../cidr.ts'
import type { Parsed } from './facts.ts'
import { Fault, fault, type Json, record, text } from './json.ts'

/** What the proxy uses of an object's metadata. */
export interface Metadata {
  /** `namespace/name`, or the name alone; without a name it is empty, or ends with the slash. */
  readonly name: string
  readonly labels: Json
  readonly annotations: Json
  readonly creationTimestamp: unknown
  readonly deletionTimestamp: unknown
}

/** A namespaced object without a namespace, such as a manifest, is in `default`. */
export function metadata(object: unknown, { namespaced }: { readonly namespaced: boolean }): Metadata {
  const { name, namespace, labels, annotations, creationTimestamp, deletionTimestamp } = record(
    record(object).metadata,
  )
  const own = typeof name === 'string' ? name : ''
  const scope = typeof namespace === 'string' && namespace !== '' ? namespace : 'default'
  return {
    name: namespaced ? `${scope}/${own}` : own,
    labels: record(labels),
    annotations: record(annotations),
    creationTimestamp,
    deletionTimestamp,
  }
}

/** Runs `parse`; a Fault becomes the object's problem, and the object unusable. */
export function parsing<Fact>(
  kind: string,
  name: string,
  parse: () => Omit<Parsed<Fact>, 'name'>,
): Parsed<Fact> {
  try {
    if (name === '' || name.endsWith('/')) throw new Fault('metadata.name is missing')
    return { name, ...parse() }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { name, unusable: true, problems: [`Cannot use ${kind} ${name}: ${error.message}`] }
  }
}

/** A network. Throws Fault. */
export function cidr(value: unknown): Cidr {
  return parseCidr(text(value)) ?? fault('', value, 'a network such as 192.0.2.0/24')
}
