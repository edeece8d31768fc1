{
  "targets": [
    {
      "target_name": "netlink_socket",
      "sources": ["addon.cc", "exchange.cc", "listener.cc", "netlink_socket.cc"],
      "defines": ["NAPI_VERSION=8"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-O2", "-fno-exceptions"],
    }
  ]
}
