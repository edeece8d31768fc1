/** An open netlink socket of the addon; closed when collected, at the latest. */
export interface NativeSocket {
  readonly brand: unique symbol
}

/** What came of one exchange. */
export interface NativeExchange {
  /** Every message that answers one of the requests, packed as the kernel packs them. */
  readonly replies: Buffer
  /** 0, or the errno of the step that failed; the answers received before it are in `replies`. */
  readonly errno: number
  /** The step that failed: `send`, `poll` or `receive`. */
  readonly step: string
  /** Messages that were handed to the kernel. */
  readonly sent: number
}

/** The addon: a netlink socket and nothing else. */
export interface NetlinkAddon {
  /** Opens and binds a socket. Throws an error with `code` "errno <n>". */
  open(protocol: number, receiveBytes: number): NativeSocket
  /**
   * Sends packed messages, whose sequence numbers ascend, and gathers the answers on a worker thread.
   * Sets NLM_F_ACK on the last message of each datagram. `requests` must not change meanwhile.
   */
  exchange(socket: NativeSocket, requests: Buffer, timeoutMs: number): Promise<NativeExchange>
  /** Closes the socket, after the exchange under way if there is one. */
  close(socket: NativeSocket): void
}
