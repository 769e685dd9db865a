#!/bin/bash
systemctl start sddm.service
