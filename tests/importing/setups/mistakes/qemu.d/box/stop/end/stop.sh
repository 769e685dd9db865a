#!/bin/bash
systemctl start sddm
