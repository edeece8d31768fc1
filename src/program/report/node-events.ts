/** What is said of this node, as Events. */
import type { Happening, RecordEvent } from '../../source/events.ts'

/** Something about this node; of type Normal unless it says otherwise. */
export type NodeHappening = Omit<Happening, 'regarding' | 'type'> & Partial<Pick<Happening, 'type'>>

/** Returns at once, and never throws. */
export type RecordNodeEvent = (happening: NodeHappening) => void

export function nodeEvents(recordEvent: RecordEvent, nodeName: string): RecordNodeEvent {
  return (happening) => {
    recordEvent({ type: 'Normal', ...happening, regarding: { kind: 'Node', name: nodeName } })
  }
}
