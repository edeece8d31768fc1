/** A state as a word, on a colour that says the same. */
import type { VNode } from 'preact'
import type { State as Name } from '../view/documents.ts'
import { TONES } from './words.ts'

export function State({ state, more = '' }: { readonly state: Name; readonly more?: string }): VNode {
  return <span class={`state ${TONES[state]}`}>{state + more}</span>
}
