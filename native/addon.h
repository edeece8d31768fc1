// What the addon exports; index.d.ts says what each function does. Each throws by N-API, and then returns nullptr.
#pragma once

#include <node_api.h>

// exchange.cc
napi_value Open(napi_env env, napi_callback_info info);
napi_value StartExchange(napi_env env, napi_callback_info info);
napi_value Close(napi_env env, napi_callback_info info);

// listener.cc
napi_value Listen(napi_env env, napi_callback_info info);
napi_value Stop(napi_env env, napi_callback_info info);
